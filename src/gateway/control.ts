// Promises: BEGIN, COMMIT and their kin where the gateway answers them: before a transaction has an arm, and on the target. In a
// transaction that PostgreSQL has open they are PostgreSQL's.
import { SwitchbackError } from '../model/errors.ts'
import type { Plan, PlannedStatement } from '../model/plan.ts'
import { commandComplete, warning } from './messages.ts'
import type { SessionCore } from './session-core.ts'
import { abortTarget, commitTarget } from './target-arm.ts'
import { IDLE, isolationOf, transactionAborted } from './transaction.ts'

export type ControlPlan = Extract<Plan, { kind: 'control' }>

/** False: the statement goes to PostgreSQL (with the held BEGIN before it, if there is one). */
export function answersControl(core: SessionCore, plan: ControlPlan): boolean {
  const kind = core.transaction.kind
  if (kind === 'source') return false
  // COMMIT and ROLLBACK outside a transaction: PostgreSQL warns as it does.
  if (kind === 'idle') return plan.control === 'begin' && !core.unsynced
  if (kind === 'held') return plan.control === 'begin' || plan.control === 'commit' || plan.control === 'abort'
  return true
}

/** The messages that answer it. Throws what PostgreSQL would refuse, and COMMIT's failure. */
export async function actOnControl(core: SessionCore, statement: PlannedStatement): Promise<Buffer[]> {
  const plan = statement.plan as ControlPlan
  const open = core.transaction
  const chained = /\bchain\b/i.test(statement.sql) && !/\bno\s+chain\b/i.test(statement.sql)
  switch (plan.control) {
    case 'begin':
      return begin(core, plan, statement.sql)
    case 'commit':
      if (open.kind === 'failed') return end(core, 'ROLLBACK')
      if (chained && open.kind === 'target') throw new SwitchbackError('NOT_ON_TARGET', { what: 'COMMIT AND CHAIN' })
      if (open.kind === 'target') await commitTarget(core, open)
      if (chained) return [commandComplete('COMMIT')]
      return end(core, 'COMMIT')
    case 'abort':
      if (chained && open.kind !== 'held') throw new SwitchbackError('NOT_ON_TARGET', { what: 'ROLLBACK AND CHAIN' })
      if (open.kind === 'target') abortTarget(core, open)
      if (chained) return [commandComplete('ROLLBACK')]
      return end(core, 'ROLLBACK')
    default:
      if (open.kind === 'failed') throw transactionAborted()
      throw new SwitchbackError('NOT_ON_TARGET', { what: plan.control.toUpperCase() })
  }
}

function begin(core: SessionCore, plan: ControlPlan, sql: string): Buffer[] {
  const tag = /^\s*start\b/i.test(sql) ? 'START TRANSACTION' : 'BEGIN'
  switch (core.transaction.kind) {
    case 'failed':
      throw transactionAborted()
    case 'held':
    case 'target':
      return [warning('25001', 'there is already a transaction in progress'), commandComplete(tag)]
    default:
      core.transaction = {
        kind: 'held',
        sql,
        isolation: isolationOf(plan.isolation ?? core.settings.isolation),
        readOnly: plan.readOnly ?? core.settings.readOnly,
      }
      return [commandComplete(tag)]
  }
}

function end(core: SessionCore, tag: string): Buffer[] {
  core.transaction = IDLE
  core.transactionEnded()
  return [commandComplete(tag)]
}
