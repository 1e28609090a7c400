import assert from 'node:assert/strict'
import { test } from 'node:test'
import { CATALOGUE } from '../../src/model/error-catalogue.ts'
import { isSystemFault } from '../../src/model/system-fault.ts'

const FAULTS = {
  '08006': 'the connection was lost',
  '08007': 'the outcome is unknown',
  '0A000': 'a transaction crosses owners: PostgreSQL alone would have answered',
  '40001': 'a conflict that outlasted its retries, or a key that moved',
  '40P01': 'deadlock',
  '53300': 'too many connections',
  '54000': 'an aggregate that is too large for the target',
  '57014': 'timed out or cancelled',
  '57P01': 'the server goes away',
  '58030': 'I/O',
  F0000: 'the configuration',
  XX000: 'a bug',
  '': 'no SQLSTATE at all (faults.md 33)',
  SB: 'none either',
}
const OWN = {
  '08P01': 'the client broke the protocol',
  '22012': 'division by zero',
  '22P02': 'a text that is no number',
  '23505': 'a duplicate key',
  '23514': 'a check constraint',
  '25006': 'a read-only that a person ordered',
  '25P02': 'the transaction failed before',
  '42601': 'syntax',
  '42P01': 'no such table',
  '42501': 'no right to it',
  '55P03': 'NOWAIT',
  P0001: 'RAISE of the application',
}

test("an error is the system's fault or the application's own by its SQLSTATE", () => {
  for (const [sqlstate, what] of Object.entries(FAULTS)) assert.equal(isSystemFault(sqlstate), true, `${sqlstate}: ${what}`)
  for (const [sqlstate, what] of Object.entries(OWN)) assert.equal(isSystemFault(sqlstate), false, `${sqlstate}: ${what}`)
})

test("what the gateway itself refuses a statement with is the system's fault, but for what a person ordered or the client did", () => {
  const own = ['SLOT_READ_ONLY', 'READ_ONLY_TRANSACTION', 'TRANSACTION_ABORTED', 'PROTOCOL_VIOLATION'] as const
  const faults = [
    'KEY_MOVED',
    'NO_LEASE',
    'LEASE_OVER',
    'CONTENTION_DEADLINE',
    'AGGREGATE_QUEUE_FULL',
    'OUTCOME_UNKNOWN',
    'CROSSES_OWNERS',
    'CONFLICT',
  ] as const
  for (const code of own) assert.equal(isSystemFault(CATALOGUE[code].sqlstate), false, code)
  for (const code of faults) assert.equal(isSystemFault(CATALOGUE[code].sqlstate), true, code)
})
