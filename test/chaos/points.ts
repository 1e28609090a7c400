// Promises: where a process can be killed: the points of failpoints.mjs at which each kind of process stands between two durable states,
// by the part of the protocol that they belong to. What is before one is after the last.
import type { Random } from '../../src/lib/prng.ts'

/** Those that place an order and follow it, and those that look at both stores. */
export const COMMANDS = ['canary', 'rollback', 'readonly', 'parity', 'repair', 'reconcile'] as const
export type CommandName = (typeof COMMANDS)[number]
/** Of a leader too: what it does about a verdict, and what it does when a person starts again after one. */
export const JUDGED = ['verdict', 'again'] as const
export type JudgedName = (typeof JUDGED)[number]
export type Role = 'gateway' | 'controller' | 'backfill' | CommandName | JudgedName

export interface Point {
  readonly of: string
  readonly at: string
  /** It is passed so often that up to this many are let by, so that not always the first of a burst dies. */
  readonly hitsMax: number
}

const HEADS = 'ledger_switchback_ledger_heads'
const OUTBOX = 'ledger_switchback_ledger_outbox'
const often = (of: string, ...at: string[]): Point[] => at.map((one) => ({ of, at: one, hitsMax: 20 }))
const seldom = (of: string, ...at: string[]): Point[] => at.map((one) => ({ of, at: one, hitsMax: 2 }))
const once = (of: string, ...at: string[]): Point[] => at.map((one) => ({ of, at: one, hitsMax: 1 }))
/** Placed; then looked for every few milliseconds until it has ended. */
const order = (of: string): Point[] => [...once(of, 'insert into switchback.job'), { of, at: 'select switchback.job', hitsMax: 3 }]

export const POINTS: Readonly<Record<Role, readonly Point[]>> = {
  gateway: [
    ...often(
      'commit',
      `PutItem ${HEADS}`,
      `PutItem ${OUTBOX}`,
      'PutItem ledger_accounts',
      'PutItem ledger_entries',
      'PutItem ledger_profiles',
    ),
    ...often('read', `GetItem ${HEADS}`, 'GetItem ledger_accounts'),
    ...seldom('park', 'ack', 'report_parked', 'view_since'),
    ...seldom('lease', 'renew'),
  ],
  controller: [
    ...seldom('flip', 'write_intent', 'set_phase', 'write_marker', 'commit_flip', 'finish_flip', 'flip_rows'),
    ...seldom('order', 'update switchback.job'),
    ...often('forward apply', 'PutItem ledger_accounts', 'PutItem ledger_entries', 'PutItem ledger_profiles'),
    ...seldom('checkpoint', 'checkpoint', 'position'),
    ...often('reverse apply', `Query ${OUTBOX}`, 'applied', 'insert into public.entries', 'insert into public.accounts', 'commit'),
    ...seldom('reverse apply', `BatchWriteItem ${OUTBOX}`),
    ...seldom('lead', 'beat', 'assert_leader'),
  ],
  backfill: [
    ...often('backfill', 'PutItem ledger_profiles', 'PutItem ledger_accounts'),
    ...seldom('backfill', 'update switchback.backfill_range'),
    ...once('backfill', 'begin_backfill', 'update switchback.backfill'),
  ],
  canary: order('canary'),
  rollback: [...once('rollback', 'hold_moves'), ...order('rollback')],
  readonly: order('readonly'),
  parity: once('parity', 'Scan ledger_accounts', 'Scan ledger_entries', 'Scan ledger_profiles'),
  repair: once('repair', 'Scan ledger_accounts', 'Scan ledger_entries', 'Scan ledger_profiles'),
  reconcile: once('reconcile', `GetItem ${OUTBOX}`),
  verdict: [
    ...once('verdict', 'record_verdict', 'save_judge'),
    ...once('way home', 'write_intent', 'set_phase', 'commit_flip', 'finish_flip'),
    // Begun, told of, ended.
    { of: 'way home', at: 'update switchback.job', hitsMax: 3 },
    // That the traffic is off; then, with the comparison, the whole of it.
    ...seldom('report', 'save_report'),
  ],
  again: once('start again', 'start_again'),
}

/** What failpoints.mjs is armed with. */
export interface Armed {
  readonly of: string
  readonly point: string
  readonly hit: number
}

export function drawPoint(role: Role, random: Random): Armed {
  const points = POINTS[role]
  const { of, at, hitsMax } = points[random.int(points.length)]!
  return { of, point: `${random.int(2) === 0 ? 'before' : 'after'} ${at}`, hit: 1 + random.int(hitsMax) }
}
