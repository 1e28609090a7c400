// Promises: one batch of the client's messages, to its Sync, Flush or Query, from decision to answer. Nothing of a batch is sent
// before it is decided where its statements go together; an error ends the batch as PostgreSQL would end it (skip to Sync).
import type { PlannedStatement } from '../model/plan.ts'
import { BACKEND, encodeBackend } from '../wire/backend.ts'
import { decodeQuery, FRONTEND } from '../wire/frontend.ts'
import type { Run } from './answer-tally.ts'
import { actOnControl, answersControl, type ControlPlan } from './control.ts'
import {
  BIND_COMPLETE,
  CLOSE_COMPLETE,
  type ClientMessage,
  EMPTY_QUERY,
  errorMessage,
  NO_DATA,
  PARSE_COMPLETE,
  queryMessage,
  readyForQuery,
  SYNC,
} from './messages.ts'
import { afterSettings } from './plan-doubts.ts'
import { checkOnTarget, type Routable, type Route, routeBeginning, routeOnSource } from './routing.ts'
import { ServerError } from './server-error.ts'
import type { SessionCore } from './session-core.ts'
import { afterReady, failOnSource, noteSettings, noteTouches, openOnSource, runQueryOnSource, runStepsOnSource } from './source-arm.ts'
import { resolveSteps, type Segment, type Step, segmentsOf, UNKNOWN_STATEMENT } from './steps.ts'
import {
  abortTarget,
  commitTarget,
  openOnTarget,
  RouteAgain,
  runStepsOnTarget,
  runTextOnTarget,
  type TargetBatch,
  takeBackSteps,
} from './target-arm.ts'
import { statusOf, transactionAborted } from './transaction.ts'
import { hasBinaryParams, keyParams } from './values.ts'

export interface Batch {
  readonly messages: readonly ClientMessage[]
  readonly bytes: number
  /** When its last byte came in, by the monotonic clock. */
  readonly arrivedMs: number
  /** COPY data that came behind it. */
  readonly copyData: Buffer[]
  copyEnds: boolean
}

export async function runBatch(core: SessionCore, batch: Batch): Promise<void> {
  const end = batch.messages.at(-1)!.type
  core.atRisk = false
  core.tally.batch(batch.arrivedMs, core.transaction.kind === 'target' && core.transaction.implicit)
  try {
    if (core.skipping) await skipToSync(core, end)
    else await runToEnd(core, batch, end)
  } catch (error) {
    await failBatch(core, error, end)
  }
  // Its end ends what was no transaction block, and portals with it.
  if (end !== FRONTEND.flush && core.transaction.kind === 'idle') core.portals.clear()
}

async function runToEnd(core: SessionCore, batch: Batch, end: number): Promise<void> {
  await core.ensureSettings()
  if (end === FRONTEND.query) await runQuery(core, batch)
  else if (end === FRONTEND.functionCall) await runFunctionCall(core, batch)
  else await runExtended(core, batch, end === FRONTEND.sync)
}

/** After an error nothing counts until Sync, which ends the implicit transaction. */
async function skipToSync(core: SessionCore, end: number): Promise<void> {
  if (end !== FRONTEND.sync) return
  core.skipping = false
  await finish(core)
}

/** PostgreSQL's answer to Sync, or ours where it has nothing to answer. */
async function finish(core: SessionCore): Promise<void> {
  if (core.transaction.kind === 'target' && core.transaction.implicit) await commitTarget(core, core.transaction)
  if (core.unsynced) {
    const shown = core.transaction.kind === 'idle' || core.transaction.kind === 'source'
    const lease = core.sourceWork?.lease ?? null
    // Sync commits an implicit transaction.
    core.atRisk = core.implicit
    await core.link.exchange([SYNC], { relay: true, until: 'ready', ready: shown ? 'relay' : 'hide', lease })
    core.atRisk = false
    afterReady(core)
    if (shown) return
  }
  core.toClient(readyForQuery(statusOf(core.transaction, core.link.status)))
}

/** The error in place of what was left of the batch. The transaction fails with it, wherever it is. */
async function failBatch(core: SessionCore, error: unknown, end: number): Promise<void> {
  if (core.link.lost !== null) throw core.link.lost
  const open = core.transaction
  if (open.kind === 'target') abortTarget(core, open)
  else if (open.kind === 'held') core.transaction = { kind: 'failed', isolation: open.isolation, readOnly: open.readOnly }
  else if (core.unsynced || (open.kind === 'source' && core.link.status === 'transaction')) await failOnSource(core)
  if (core.sourceWork !== null && !core.unsynced) {
    core.sourceWork.end()
    core.sourceWork = null
  }
  core.context.metrics.refused?.(error instanceof Error && 'sqlstate' in error ? String(error.sqlstate) : '')
  core.toClient(error instanceof ServerError ? serverError(error) : errorMessage(error))
  if (end === FRONTEND.flush) core.skipping = true
  else core.toClient(readyForQuery(statusOf(core.transaction, core.link.status)))
}

function serverError(error: ServerError): Buffer {
  const header = Buffer.alloc(5)
  header[0] = 0x45
  header.writeInt32BE(error.body.length + 4, 1)
  return Buffer.concat([header, error.body])
}

// ---- extended protocol

async function runExtended(core: SessionCore, batch: Batch, sync: boolean): Promise<void> {
  const steps = await resolveSteps(core, batch.messages.slice(0, -1))
  const segments = segmentsOf(steps)
  for (let i = 0; i < segments.length && !core.skipping; i++) {
    const segment = segments[i]!
    const last = i === segments.length - 1
    if (segment.kind === 'control' && answersControl(core, controlOf(segment))) await answerControl(core, segment)
    else if (await runWork(core, segment, { bytes: batch.bytes, sync: sync && last })) return
  }
  if (!sync) return
  core.skipping = false
  await finish(core)
}

function controlOf(segment: Segment): ControlPlan {
  return segment.steps[0]!.planned!.plan as ControlPlan
}

/** True if the batch's Sync was sent with it and its ReadyForQuery relayed. */
async function runWork(core: SessionCore, segment: Segment, options: { bytes: number; sync: boolean }): Promise<boolean> {
  const { steps } = segment
  if (core.transaction.kind === 'failed') throw transactionAborted()
  const executed = steps.filter(({ message }) => message.kind === 'bind' || message.kind === 'execute')
  if (executed.length === 0 && steps.some(({ portal }) => portal?.home === 'target')) {
    await answerOnTarget(core, { steps, route: null, autocommit: false })
    return false
  }
  if (executed.length === 0) {
    const shown = core.transaction.kind === 'idle' || core.transaction.kind === 'source'
    if (segment.kind === 'control' && core.transaction.kind === 'held') await openOnSource(core)
    await runStepsOnSource(core, { steps, work: null, sync: options.sync, showReady: shown })
    return options.sync && shown
  }
  const statements = undoubted(await routables(core, executed))
  core.tally.begin(runsOf(core, steps))
  try {
    return await runStatements(core, { steps, executed, statements }, options)
  } catch (error) {
    core.tally.threw(error)
    throw error
  }
}

/** In the order of their executions. */
function runsOf(core: SessionCore, steps: readonly Step[]): Run[] {
  const runs: Run[] = []
  if (!core.tally.measured) return runs
  for (const { message, portal, planned } of steps) {
    if (message.kind === 'execute') runs.push(planned === null ? null : runOf(core, planned, portal?.routed))
  }
  return runs
}

/** COMMIT in a transaction that PostgreSQL has open, and that has not failed, is one of the aggregate that it is on. */
function runOf(core: SessionCore, { plan }: PlannedStatement, routed: Routable | undefined): Run {
  if (plan.kind === 'keyed') return routed ?? null
  const commits = plan.kind === 'control' && plan.control === 'commit' && core.link.status === 'transaction'
  return commits ? core.tally.open : null
}

/** Work whose statements are decided together. */
interface Decided {
  readonly steps: readonly Step[]
  readonly executed: readonly Step[]
  readonly statements: readonly Routable[]
}

async function runStatements(
  core: SessionCore,
  { steps, executed, statements }: Decided,
  options: { bytes: number; sync: boolean },
): Promise<boolean> {
  const { tally } = core
  for (;;) {
    const route = await decide(core, statements, options.bytes)
    tally.arm = route.arm
    if (route.arm === 'source') {
      await openOnSource(core)
      const work = noteTouches(core, route.touches)
      noteSettings(
        core,
        executed.map(({ planned }) => planned!),
      )
      core.atRisk = atRisk(
        core,
        executed.map(({ planned }) => planned),
      )
      const sqlstate = await runStepsOnSource(core, { steps, work, sync: options.sync, showReady: true })
      tally.answered({ sqlstate, alone: core.transaction.kind !== 'source' })
      core.atRisk = false
      return options.sync
    }
    const executions = steps.filter(({ message }) => message.kind === 'execute').length
    const autocommit = core.transaction.kind === 'idle' && options.sync && executions === 1
    if (!autocommit && core.transaction.kind !== 'target') openOnTarget(core, route)
    try {
      await answerOnTarget(core, { steps, route, autocommit })
      // Without BEGIN they are one transaction to Sync, and answered for good with its COMMIT.
      if (core.transaction.kind !== 'target' || !core.transaction.implicit) tally.answered({ sqlstate: null, alone: autocommit })
      return false
    } catch (error) {
      if (!(error instanceof RouteAgain)) throw error
      tally.again()
      await takeBackSteps(core, steps)
    }
  }
}

/** An error comes behind the replies to what went before it; what is routed again has answered nothing. */
async function answerOnTarget(core: SessionCore, batch: TargetBatch): Promise<void> {
  const out: Buffer[] = []
  try {
    await runStepsOnTarget(core, batch, out)
  } catch (error) {
    if (!(error instanceof RouteAgain)) send(core, out)
    throw error
  }
  send(core, out)
}

function undoubted(statements: readonly Routable[]): readonly Routable[] {
  const planned = statements.map((statement) => statement.planned)
  const list = afterSettings(planned)
  return list === planned ? statements : statements.map((statement, i) => ({ ...statement, planned: list[i]! }))
}

function send(core: SessionCore, out: readonly Buffer[]): void {
  if (out.length === 1) core.toClient(out[0]!)
  else if (out.length > 1) core.toClient(Buffer.concat(out))
}

/** Each bound statement once, with its parameters as far as its key needs them. */
async function routables(core: SessionCore, executed: readonly Step[]): Promise<Routable[]> {
  const seen = new Set<unknown>()
  const list: Routable[] = []
  for (const { portal, planned, message } of executed) {
    if (portal === null) {
      list.push({ planned: planned ?? UNKNOWN_STATEMENT, params: null })
      continue
    }
    if (seen.has(portal) || (message.kind === 'execute' && portal.planned.plan.kind === 'control')) continue
    seen.add(portal)
    if (portal.planned.plan.kind !== 'keyed') {
      list.push({ planned: portal.planned, params: [] })
      continue
    }
    let oids = portal.prepared.description?.paramOids ?? null
    // PostgreSQL is asked for the types only where the key's own format needs them, and not in a failed transaction.
    if (oids === null && hasBinaryParams(portal.bind) && core.link.status !== 'failed') {
      if (core.unsynced) await syncQuietly(core)
      oids = core.unsynced ? null : (await core.describe(portal.prepared)).paramOids
    }
    const params = keyParams(portal.bind, oids)
    const { planned: own } = portal
    portal.routed =
      params === null ? { planned: own, params, why: 'its parameters have types that cannot be read' } : { planned: own, params }
    list.push(portal.routed)
  }
  return list
}

/** Closes messages that have executed nothing; an implicit transaction stays open. */
async function syncQuietly(core: SessionCore): Promise<void> {
  if (core.implicit) return
  await core.link.exchange([SYNC], { relay: false, until: 'ready' })
  afterReady(core)
}

async function decide(core: SessionCore, statements: readonly Routable[], bytes: number): Promise<Route> {
  const { gate } = core.context
  const { shadowed } = core.settings
  const open = core.transaction
  if (open.kind === 'target') {
    if (open.interrupted !== null) throw open.interrupted
    const { key, slot } = open.address
    checkOnTarget(statements, { gate, shadowed, key })
    const row = gate.view?.ownership(slot)
    if (row === undefined) throw transactionAborted()
    return { arm: 'target', row, key, writes: true }
  }
  if (open.kind === 'source') return { arm: 'source', touches: routeOnSource(statements, { gate, shadowed, work: open.work }) }
  if (core.unsynced && !core.implicit) await syncQuietly(core)
  if (core.unsynced) return { arm: 'source', touches: routeOnSource(statements, { gate, shadowed, work: core.sourceWork }) }
  const decided = routeBeginning(statements, { gate, shadowed, bytes, signal: core.cancel.signal })
  return decided
}

/** INV-9: may it have taken effect if the connection is lost now? Not while a transaction stays open behind it. */
function atRisk(core: SessionCore, executed: readonly (PlannedStatement | null)[]): boolean {
  const plans = executed.map((planned) => planned?.plan)
  if (plans.some((plan) => plan?.kind === 'control')) return true
  return core.transaction.kind !== 'source' && !plans.every((plan) => plan?.kind === 'keyed' && plan.readOnly)
}

async function answerControl(core: SessionCore, segment: Segment): Promise<void> {
  const out: Buffer[] = []
  for (const { message, prepared, portal, planned } of segment.steps) {
    switch (message.kind) {
      case 'parse':
        core.statements.set(message.name, prepared!)
        out.push(PARSE_COMPLETE)
        break
      case 'bind':
        if (portal !== null) core.portals.set(message.portal, portal)
        out.push(BIND_COMPLETE)
        break
      case 'describe':
        if (message.target === 'statement') out.push(encodeBackend({ kind: 'parameterDescription', parameterTypes: [] }))
        out.push(NO_DATA)
        break
      case 'close':
        if (message.target === 'statement') core.statements.delete(message.name)
        else core.portals.delete(message.name)
        out.push(CLOSE_COMPLETE)
        break
      case 'execute':
        try {
          out.push(...(await actOnControl(core, planned!)))
        } catch (error) {
          send(core, out)
          throw error
        }
    }
  }
  send(core, out)
}

// ---- simple protocol

async function runQuery(core: SessionCore, batch: Batch): Promise<void> {
  const { body, bytes } = batch.messages.at(-1)!
  if (batch.messages.length > 1 || core.unsynced) await runExtended(core, batch, false)
  const { sql } = decodeQuery(body)
  // As in PostgreSQL: a Query drops the unnamed statement.
  core.statements.delete('')
  const list = await core.planText(sql)
  if (list.length === 0) {
    if (core.transaction.kind === 'idle' || core.transaction.kind === 'source')
      await runQueryOnSource(core, { bytes, work: null, showReady: true })
    else core.toClient(Buffer.concat([EMPTY_QUERY, readyForQuery(statusOf(core.transaction, core.link.status))]))
    return
  }
  const pieces = piecesOf(list, core.transaction.kind !== 'idle')
  for (let i = 0; i < pieces.length; i++) {
    const piece = pieces[i]!
    const control = controlPlanOf(piece[0]!)
    if (control !== null && answersControl(core, control)) {
      core.toClient(Buffer.concat(await actOnControl(core, piece[0]!)))
      continue
    }
    const whole = pieces.length === 1
    const shown = await runPiece(core, {
      list: piece,
      bytes: whole ? bytes : queryMessage(piece.map((one) => one.sql).join(';\n')),
      size: batch.bytes,
      last: i === pieces.length - 1,
    })
    if (shown === 'ready') return
    // An error ends the text; PostgreSQL has said it.
    if (shown === 'failed') break
  }
  core.toClient(readyForQuery(statusOf(core.transaction, core.link.status)))
}

/**
 * Statements between transaction control go together. Outside a block PostgreSQL makes one transaction of what stands in one text, and a
 * BEGIN, ROLLBACK or SAVEPOINT further on in it is about what went before too: all of that is one piece.
 */
function piecesOf(list: readonly PlannedStatement[], inBlock: boolean): PlannedStatement[][] {
  const pieces: PlannedStatement[][] = []
  let joined = false
  for (const [i, statement] of list.entries()) {
    const control = controlPlanOf(statement)
    if (control === null && !inBlock && !joined && list.slice(i).some((later) => controlPlanOf(later) !== null)) {
      pieces.push(list.slice(i))
      break
    }
    if (control !== null || !joined) pieces.push([statement])
    else pieces.at(-1)!.push(statement)
    joined = control === null
    if (control?.control === 'begin') inBlock = true
    if (control?.control === 'commit' || control?.control === 'abort') inBlock = control.chain
  }
  return pieces
}

function controlPlanOf({ plan }: PlannedStatement): ControlPlan | null {
  return plan.kind === 'control' ? plan : null
}

async function runPiece(core: SessionCore, piece: Piece): Promise<'ready' | 'failed' | 'done'> {
  if (core.transaction.kind === 'failed') throw transactionAborted()
  const statements = afterSettings(piece.list).map((planned): Routable => ({ planned, params: [] }))
  const { tally } = core
  tally.begin(tally.measured ? statements.map((statement) => runOf(core, statement.planned, statement)) : [])
  try {
    return await runText(core, piece, statements)
  } catch (error) {
    tally.threw(error)
    throw error
  }
}

/** Statements of a simple Query that go together, and what PostgreSQL is sent of it where they run there. */
interface Piece {
  readonly list: readonly PlannedStatement[]
  readonly bytes: Buffer
  readonly size: number
  readonly last: boolean
}

async function runText(core: SessionCore, piece: Piece, statements: readonly Routable[]): Promise<'ready' | 'failed' | 'done'> {
  const { tally } = core
  for (;;) {
    const route = await decide(core, statements, piece.size)
    tally.arm = route.arm
    if (route.arm === 'source') {
      await openOnSource(core)
      const work = noteTouches(core, route.touches)
      noteSettings(core, piece.list)
      core.atRisk = atRisk(core, piece.list)
      const result = await runQueryOnSource(core, { bytes: piece.bytes, work, showReady: piece.last })
      core.atRisk = false
      for (const { type } of result.kept) if (type === BACKEND.commandComplete) tally.ran()
      tally.answered({ sqlstate: result.failed, alone: core.transaction.kind !== 'source' })
      return piece.last ? 'ready' : result.failed === null ? 'done' : 'failed'
    }
    const autocommit = core.transaction.kind === 'idle' && piece.list.length === 1
    if (!autocommit && core.transaction.kind !== 'target') openOnTarget(core, route)
    const out: Buffer[] = []
    try {
      core.statements.unnamedReplaced()
      for (const planned of piece.list) await runTextOnTarget(core, { route, autocommit }, planned, out)
      if (core.transaction.kind === 'target' && core.transaction.implicit) await commitTarget(core, core.transaction)
      send(core, out)
      tally.answered({ sqlstate: null, alone: autocommit })
      return 'done'
    } catch (error) {
      if (error instanceof RouteAgain) {
        tally.again()
        continue
      }
      send(core, out)
      throw error
    }
  }
}

async function runFunctionCall(core: SessionCore, batch: Batch): Promise<void> {
  const { bytes } = batch.messages.at(-1)!
  await runPiece(core, { list: [{ ...UNKNOWN_STATEMENT, sql: 'a function call' }], bytes, size: batch.bytes, last: true })
}
