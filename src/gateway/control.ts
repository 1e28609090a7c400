// Promises: BEGIN, COMMIT and their kin where the gateway answers them: before a transaction has an arm, and on the target. In a
// transaction that PostgreSQL has open they are PostgreSQL's.
import { SwitchbackError } from '../model/errors.ts'
import type { Plan, PlannedStatement } from '../model/plan.ts'
import { commandComplete, warning } from './messages.ts'
import type { SessionCore } from './session-core.ts'
import { abortTarget, commitTarget } from './target-arm.ts'
import { heldLike, IDLE, isolationOf, type Transaction, transactionAborted } from './transaction.ts'

const ALREADY_IN_PROGRESS = warning('25001', 'there is already a transaction in progress')

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
  const next = plan.chain && open.kind !== 'idle' && open.kind !== 'source' ? heldLike(open) : IDLE
  switch (plan.control) {
    case 'begin':
      return begin(core, plan, statement.sql)
    case 'commit':
      if (open.kind === 'target') await commitTarget(core, open)
      return end(core, open.kind === 'failed' ? 'ROLLBACK' : 'COMMIT', next)
    case 'abort':
      if (open.kind === 'target') abortTarget(core, open)
      return end(core, 'ROLLBACK', next)
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
    case 'target':
      // PostgreSQL would make what the batch has done so far part of the block.
      if (core.transaction.implicit) throw new SwitchbackError('NOT_ON_TARGET', { what: 'BEGIN behind other statements' })
      return [ALREADY_IN_PROGRESS, commandComplete(tag)]
    case 'held':
      return [ALREADY_IN_PROGRESS, commandComplete(tag)]
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

/** `next`: what AND CHAIN begins. */
function end(core: SessionCore, tag: string, next: Transaction): Buffer[] {
  core.transaction = IDLE
  core.transactionEnded()
  core.transaction = next
  return [commandComplete(tag)]
}
