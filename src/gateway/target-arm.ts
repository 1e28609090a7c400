// Promises: statements of moved keys, answered as PostgreSQL would have answered them: prepared and described by PostgreSQL,
// permitted by PostgreSQL, run by the executor (gateway.md, Plans). A batch's replies leave together, when its work is done.
import { hasCode, SwitchbackError } from '../model/errors.ts'
import type { AggregateAddress, Isolation, LeaseHandle } from '../model/executor.ts'
import type { AggregateKey } from '../model/key.ts'
import type { Ownership } from '../model/ownership.ts'
import { type KeyedPlan, type Params, type PlannedStatement, SqlError, type StatementEnv, type StatementResult } from '../model/plan.ts'
import { encodeBackend } from '../wire/backend.ts'
import type { BindMessage, Format } from '../wire/frontend.ts'
import { oidOf } from '../wire/values.ts'
import type { Description } from './descriptions.ts'
import { BIND_COMPLETE, CLOSE_COMPLETE, commandComplete, NO_DATA, PARSE_COMPLETE, PORTAL_SUSPENDED, SYNC } from './messages.ts'
import { mustBeDescribedAs } from './plan-doubts.ts'
import type { SessionCore } from './session-core.ts'
import type { Prepared } from './statements.ts'
import type { Step } from './steps.ts'
import { IDLE, nowTextOf, type Portal, type TargetState } from './transaction.ts'
import { canonicalParams, encodeRows, mustBeShowable, withFormats } from './values.ts'

/** timestamptz and its array. */
const TIMESTAMPTZ: ReadonlySet<number> = new Set([oidOf('timestamptz'), oidOf('timestamptz[]')])

/** The aggregate's place changed its owner before anything of the statement was sent: it is routed again. */
export class RouteAgain extends Error {
  override readonly name = 'RouteAgain'
}

export interface TargetRoute {
  readonly row: Ownership
  readonly key: AggregateKey
  readonly writes: boolean
}

/** Opens the transaction on the target that a held BEGIN, or a batch without one, stands for. */
export function openOnTarget(core: SessionCore, route: TargetRoute): TargetState {
  const { gate, executor } = core.context
  const before = core.transaction
  const lease = gate.lease
  if (lease === null) throw new SwitchbackError('NO_LEASE')
  const isolation: Isolation = before.kind === 'held' ? before.isolation : 'read committed'
  const address = addressOf(core, route)
  const transaction = executor.begin(lease, address, { isolation })
  const work = gate.beginTarget({
    slot: route.row.slot,
    writes: true,
    explicit: true,
    // protocols.md, The flip, 3: ended unless its compare-and-set has been sent.
    interrupt: (because) => {
      if (!transaction.committing) interruptTarget(state, because)
    },
  })
  const state: TargetState = {
    kind: 'target',
    transaction,
    work,
    address,
    isolation,
    readOnly: before.kind === 'held' ? before.readOnly : core.settings.readOnly,
    nowText: nowTextOf(core.context.clock.nowMs()),
    implicit: before.kind !== 'held',
    wrote: false,
    interrupted: null,
  }
  core.transaction = state
  return state
}

export function interruptTarget(state: TargetState, because: SwitchbackError): void {
  state.interrupted ??= because
  state.transaction.abort()
  state.work.end()
}

export function abortTarget(core: SessionCore, state: TargetState): void {
  state.transaction.abort()
  state.work.end()
  core.transaction = state.implicit ? IDLE : { kind: 'failed', isolation: state.isolation, readOnly: state.readOnly }
  core.portals.clear()
}

/** COMMIT. Whatever comes of it, the transaction is over. */
export async function commitTarget(core: SessionCore, state: TargetState): Promise<void> {
  const { key, slot } = state.address
  const committed = { key, slot, wrote: state.wrote, implicit: state.implicit }
  try {
    if (state.interrupted !== null) throw state.interrupted
    await whileAtRisk(core, () => state.transaction.commit())
    if (!state.work.lease.holds()) throw new SwitchbackError('OUTCOME_UNKNOWN', { reason: 'the lease of the gateway ended' })
    core.tally.committed(committed, null)
  } catch (error) {
    core.tally.committed(committed, error)
    throw error
  } finally {
    state.transaction.abort()
    state.work.end()
    core.transaction = IDLE
    core.transactionEnded()
  }
}

export interface TargetBatch {
  readonly steps: readonly Step[]
  /** Null: nothing of it is executed. */
  readonly route: TargetRoute | null
  /** One execution, Sync behind it, and no transaction around it. */
  readonly autocommit: boolean
}

/** Runs a segment; its replies in order. Throws what the statement failed with; replies before it are given to `out` first. */
export async function runStepsOnTarget(core: SessionCore, batch: TargetBatch, out: Buffer[]): Promise<void> {
  for (const { message, bytes, prepared, portal } of batch.steps) {
    switch (message.kind) {
      case 'parse':
        await core.describe(prepared!)
        if (message.name !== '') {
          await core.ask([bytes, SYNC])
          prepared!.onServer = true
        }
        core.statements.set(message.name, prepared!)
        out.push(PARSE_COMPLETE)
        break
      case 'bind':
        if (message.portal !== '' && core.portals.has(message.portal))
          throw new SqlError('42P03', `cursor "${message.portal}" already exists`)
        mustBind(message, await core.describe(prepared!))
        portal!.home = 'target'
        core.portals.set(message.portal, portal!)
        out.push(BIND_COMPLETE)
        break
      case 'describe':
        await describeOnTarget(core, message.target === 'statement' ? prepared : null, portal, out)
        break
      case 'execute':
        await executePortal(core, batch, portal!, message.rowsMax, out)
        break
      case 'close':
        if (message.target === 'statement') {
          if (prepared?.onServer === true && message.name !== '') await core.ask([bytes, SYNC])
          core.statements.delete(message.name)
        } else core.portals.delete(message.name)
        out.push(CLOSE_COMPLETE)
    }
  }
}

/** As PostgreSQL, at Bind. */
function mustBind({ statement, parameters, resultFormats }: BindMessage, { paramOids, fields }: Description): void {
  if (parameters.length !== paramOids.length) {
    throw new SqlError(
      '08P01',
      `bind message supplies ${parameters.length} parameters, but prepared statement "${statement}" requires ${paramOids.length}`,
    )
  }
  if (fields !== null && resultFormats.length > 1 && resultFormats.length !== fields.length)
    throw new SqlError('08P01', `bind message has ${resultFormats.length} result formats but query has ${fields.length} columns`)
}

/** What went before an execution that is routed again, so that all of it can be run from its first step, wherever that will be. */
export async function takeBackSteps(core: SessionCore, steps: readonly Step[]): Promise<void> {
  for (const { message, prepared } of steps) {
    if (message.kind === 'bind') core.portals.delete(message.portal)
    if (message.kind !== 'parse' || core.statements.get(message.name) !== prepared) continue
    core.statements.delete(message.name)
    if (message.name !== '') await core.askMessages([{ kind: 'close', target: 'statement', name: message.name }])
    prepared!.onServer = false
  }
}

async function describeOnTarget(core: SessionCore, prepared: Prepared | null, portal: Portal | null, out: Buffer[]): Promise<void> {
  const described = await core.describe((prepared ?? portal?.prepared)!)
  if (prepared !== null) out.push(encodeBackend({ kind: 'parameterDescription', parameterTypes: described.paramOids }))
  const formats: readonly Format[] = prepared === null ? portal!.bind.resultFormats : []
  if (described.fields === null) out.push(NO_DATA)
  else out.push(encodeBackend({ kind: 'rowDescription', fields: withFormats(described.fields, formats) }))
}

async function executePortal(core: SessionCore, batch: TargetBatch, portal: Portal, rowsMax: number, out: Buffer[]): Promise<void> {
  const { prepared, planned, bind } = portal
  const description = await core.describe(prepared)
  // As PostgreSQL: what gives no rows is run once.
  if (portal.rest !== null && description.fields === null) throw new SqlError('55000', `portal "${bind.portal}" cannot be run`)
  if (portal.rest === null) {
    const params = await canonicalParams(core, bind, description.paramOids)
    const formats = bind.resultFormats
    const { rows, tag } = await runKeyed(core, batch, { prepared, planned, params, description, formats })
    portal.rest = { rows, tag }
  }
  core.tally.ran()
  const { rows, tag } = portal.rest
  const shown = rowsMax > 0 ? rows.slice(0, rowsMax) : rows
  portal.rest = { rows: rows.slice(shown.length), tag }
  out.push(...shown)
  // As PostgreSQL: a portal that gave as many rows as asked for is suspended, even if they were the last.
  if (rowsMax > 0 && shown.length === rowsMax) out.push(PORTAL_SUSPENDED)
  // The rows of this execution are counted, not those of the portal.
  else out.push(commandComplete(description.fields === null ? tag : tag.replace(/\d+$/, String(shown.length))))
}

/** One statement of a simple Query: results in text. */
export async function runTextOnTarget(
  core: SessionCore,
  batch: Omit<TargetBatch, 'steps'>,
  planned: PlannedStatement,
  out: Buffer[],
): Promise<void> {
  const prepared: Prepared = { sql: planned.sql, declaredOids: [], onServer: false }
  const description = await core.describe(prepared)
  const { fields } = description
  const describe = () => {
    if (fields !== null) out.push(encodeBackend({ kind: 'rowDescription', fields: withFormats(fields, []) }))
  }
  // As PostgreSQL: a SELECT is described before it runs, what comes of RETURNING after.
  const early = planned.plan.kind === 'keyed' && (planned.plan.readOnly || planned.plan.locks)
  const statement = { prepared, planned, params: [], description, formats: [] }
  const { rows, tag } = await runKeyed(core, batch, early ? { ...statement, begins: describe } : statement)
  if (!early) describe()
  out.push(...rows)
  out.push(commandComplete(tag))
  core.tally.ran()
}

interface KeyedStatement {
  readonly prepared: Prepared
  readonly planned: PlannedStatement
  readonly params: Params
  readonly description: Description
  /** Of its result's columns. */
  readonly formats: readonly Format[]
  /** Called when all checks have passed. */
  readonly begins?: () => void
}

/** What can be refused is refused before anything runs: afterwards the outcome stands (INV-9). */
async function runKeyed(
  core: SessionCore,
  batch: Omit<TargetBatch, 'steps'>,
  statement: KeyedStatement,
): Promise<{ rows: readonly Buffer[]; tag: string }> {
  const plan = statement.planned.plan as KeyedPlan
  const { description } = statement
  const shape = { fields: description.fields ?? [], formats: statement.formats }
  mustBeDescribedAs(plan, description.paramOids)
  mustBeShowable(shape)
  const open = core.transaction.kind === 'target' ? core.transaction : null
  const readOnly = open?.readOnly ?? core.settings.readOnly
  if (readOnly && (!plan.readOnly || plan.locks))
    throw new SwitchbackError('READ_ONLY_TRANSACTION', { what: commandOf(statement.planned.sql) })
  await core.checkPermission(statement.prepared, description)
  if (shape.fields.some(({ typeOid }) => TIMESTAMPTZ.has(typeOid))) await core.compareZone()
  const answers = await core.answers(plan)
  const env: StatementEnv = {
    nowText: open?.nowText ?? nowTextOf(core.context.clock.nowMs()),
    answers,
    uuid: core.context.uuid,
  }
  statement.begins?.()
  const { result, lease } =
    open === null
      ? await runAlone(core, batch.route!, plan, statement.params, env)
      : { result: await runInTransaction(core, open, plan, statement.params, env), lease: open.work.lease }
  if (description.fields === null) return { rows: [], tag: result.commandTag }
  core.atRisk = open === null && !plan.readOnly
  const { rows, asked } = await encodeRows(result.rows, shape, core).catch((error: unknown) => {
    throw core.atRisk ? new SwitchbackError('OUTCOME_UNKNOWN', { reason: 'it was done, and its rows could not be shown' }, error) : error
  })
  // INV-8: looked at again, since time has passed.
  if (asked && !lease.holds()) throw leaseEnded(lease, core.atRisk)
  core.atRisk = false
  return { rows, tag: result.commandTag }
}

/** INV-9: a write may have taken effect. */
function leaseEnded(lease: LeaseHandle, written: boolean): SwitchbackError {
  return new SwitchbackError(written ? 'OUTCOME_UNKNOWN' : 'LEASE_OVER', { lease: lease.id, reason: 'the lease of the gateway ended' })
}

async function runInTransaction(
  core: SessionCore,
  open: TargetState,
  plan: KeyedPlan,
  params: Params,
  env: StatementEnv,
): Promise<StatementResult> {
  if (open.interrupted !== null) throw open.interrupted
  if (!plan.readOnly) open.wrote = true
  try {
    const result = await untilCanceled(core, open.transaction.execute(plan, params, env))
    if (open.interrupted !== null) throw open.interrupted
    if (!open.work.lease.holds()) throw new SwitchbackError('LEASE_OVER', { lease: open.work.lease.id })
    return result
  } catch (error) {
    // What a fence or the lease's end did to it is the reason, not the error that followed from it.
    throw open.interrupted ?? error
  }
}

/** Registered in the same turn as the view is looked at: what was decided before the last await may have changed. */
async function runAlone(
  core: SessionCore,
  route: TargetRoute,
  plan: KeyedPlan,
  params: Params,
  env: StatementEnv,
): Promise<{ result: StatementResult; lease: LeaseHandle }> {
  const { gate, executor } = core.context
  const writes = !plan.readOnly || plan.locks
  const decision = gate.decide({ touch: gate.view!.slotOf(route.key), writes })
  if (decision.kind === 'refuse') throw decision.error
  if (decision.kind !== 'target') throw new RouteAgain()
  const lease = gate.lease
  if (lease === null) throw new SwitchbackError('NO_LEASE')
  const address = addressOf(core, { ...route, row: decision.row })
  const work = gate.beginTarget({ slot: address.slot, writes, explicit: false, interrupt: null })
  try {
    const run = () => executor.autocommit(lease, address, plan, params, env)
    // A write that has been sent cannot be taken back; a read can be left alone.
    const result = await (writes ? whileAtRisk(core, run) : untilCanceled(core, run()))
    if (!lease.holds()) throw leaseEnded(lease, writes)
    return { result, lease }
  } catch (error) {
    if (hasCode(error, 'AGGREGATE_MOVING')) throw new RouteAgain()
    throw error
  } finally {
    work.end()
  }
}

/**
 * INV-9: the session may end while it is under way, PostgreSQL's connection being lost, and it may take effect all the same. One that
 * has ended begins nothing: its client was told that nothing was under way, and may have sent it again.
 */
async function whileAtRisk<T>(core: SessionCore, work: () => Promise<T>): Promise<T> {
  if (core.link.lost !== null) throw core.link.lost
  core.atRisk = true
  try {
    return await work()
  } catch (error) {
    if (error instanceof SwitchbackError || error instanceof SqlError) throw error
    throw new SwitchbackError('OUTCOME_UNKNOWN', { reason: String(error) }, error)
  } finally {
    core.atRisk = false
  }
}

/** A cancel request, or the session's end, before the answer: nothing of a read matters, and a transaction is aborted. */
function untilCanceled<T>(core: SessionCore, running: Promise<T>): Promise<T> {
  const { signal } = core.cancel
  running.catch(() => undefined)
  return new Promise((resolve, reject) => {
    const canceled = () => reject(signal.reason instanceof Error ? signal.reason : new SwitchbackError('STATEMENT_CANCELED'))
    if (signal.aborted) return canceled()
    signal.addEventListener('abort', canceled, { once: true })
    running.then(resolve, reject).finally(() => signal.removeEventListener('abort', canceled))
  })
}

function addressOf(core: SessionCore, route: TargetRoute): AggregateAddress {
  const { row, key } = route
  return { key, slot: row.slot, group: core.context.gate.view!.groupOf(row.slot), tenure: row.tenure, base: row.base }
}

function commandOf(sql: string): string {
  return /^\s*(\w+)/.exec(sql)?.[1]?.toUpperCase() ?? 'the statement'
}
