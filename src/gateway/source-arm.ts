// Promises: statements that run on PostgreSQL go there as the client sent them, after a held BEGIN, with what they touch noted
// first, and their replies come back as PostgreSQL sent them: under the lease where they touch mapped tables (INV-8).

import type { PlannedStatement } from '../model/plan.ts'
import { BACKEND } from '../wire/backend.ts'
import { encodeFrontends } from '../wire/frontend.ts'
import type { StatementFacts, Work } from './fence-gate.ts'
import { FAIL_TRANSACTION, FLUSH, queryMessage, SYNC } from './messages.ts'
import type { ExchangeResult } from './server-link.ts'
import { descriptionOf, type SessionCore } from './session-core.ts'
import { mayChangeSettings } from './settings.ts'
import type { Step } from './steps.ts'
import { isolationOf } from './transaction.ts'

/** Sends a held BEGIN. Afterwards the transaction is PostgreSQL's. Throws ServerError. */
export async function openOnSource(core: SessionCore): Promise<void> {
  const held = core.transaction
  if (held.kind !== 'held') return
  const { gate } = core.context
  const snapshot = held.isolation !== 'read committed'
  // Registered before its snapshot can be taken, so that `began` is never younger than what it reads.
  const work = gate.bound && gate.lease !== null ? gate.beginSource({ explicit: true, snapshot }) : null
  core.transaction = { kind: 'source', work, snapshot }
  await core.ask([queryMessage(held.sql)])
}

/** Notes what is about to be touched; in the same turn as the decision that allowed it. */
export function noteTouches(core: SessionCore, touches: readonly StatementFacts[]): Work | null {
  const { gate } = core.context
  const open = core.transaction
  if (open.kind === 'source') {
    if (open.work === null && touches.length > 0) open.work = gate.beginSource({ explicit: true, snapshot: open.snapshot })
    for (const facts of touches) gate.touch(open.work!, facts)
    return touches.length > 0 || (open.work !== null && open.work.read.size + open.work.wrote.size > 0) ? open.work : null
  }
  if (touches.length === 0) return core.sourceWork
  core.sourceWork ??= gate.beginSource({ explicit: false })
  for (const facts of touches) gate.touch(core.sourceWork, facts)
  return core.sourceWork
}

/** What the statements may change of the session's state beyond their transaction. */
export function noteSettings(core: SessionCore, statements: readonly PlannedStatement[]): void {
  for (const { plan, sql } of statements) {
    if (plan.kind === 'session' || (plan.kind === 'pass' && (plan.pins || mayChangeSettings(sql)))) {
      core.settingsStale = true
      core.settingsStaleAtEnd = true
    }
    if (plan.kind === 'session' && /^\s*(set|begin|start)\b.*isolation/is.test(sql) && core.transaction.kind === 'source') {
      core.transaction.snapshot =
        isolationOf(/serializable|repeatable\s+read/i.exec(sql)?.[0]?.replace(/\s+/, ' ') ?? null) !== 'read committed'
    }
    if (plan.kind === 'session') noteForgotten(core, sql)
  }
}

/** DEALLOCATE and DISCARD: what is no longer prepared there must not be taken for known here. */
function noteForgotten(core: SessionCore, sql: string): void {
  if (/^\s*(deallocate\s+(prepare\s+)?all\b|discard\s+all\b)/i.test(sql)) {
    core.statements.forgetAll()
    core.portals.clear()
    return
  }
  const one = /^\s*deallocate\s+(?:prepare\s+)?("(?:[^"]|"")+"|\w+)/i.exec(sql)?.[1]
  if (one !== undefined) core.statements.delete(one.startsWith('"') ? one.slice(1, -1).replaceAll('""', '"') : one.toLowerCase())
}

export interface SourceBatch {
  readonly steps: readonly Step[]
  readonly work: Work | null
  /** The batch ends here with Sync: it is sent along. */
  readonly sync: boolean
  /** PostgreSQL's ReadyForQuery is the client's; false: the client is in a transaction that PostgreSQL does not know. */
  readonly showReady: boolean
}

/** Sends a segment of the extended protocol and relays its replies. Returns the SQLSTATE of the error that ended it; null: none did. */
export async function runStepsOnSource(core: SessionCore, batch: SourceBatch): Promise<string | null> {
  const messages: Buffer[] = []
  const hide = new Set<number>()
  /** Which reply answers which step. */
  const answers: number[] = []
  let replies = 0
  for (const { message, prepared, bytes } of batch.steps) {
    if (message.kind === 'parse') prepared!.onServer = true
    if ((message.kind === 'bind' || message.kind === 'describe') && prepared !== null && !prepared.onServer) {
      // Held back, since its last execution was elsewhere: prepared now, and its reply was given then.
      const name = message.kind === 'bind' ? message.statement : message.name
      messages.push(encodeFrontends([{ kind: 'parse', name, sql: prepared.sql, parameterTypes: [...prepared.declaredOids] }]))
      prepared.onServer = true
      hide.add(replies++)
    }
    messages.push(bytes)
    answers.push(replies++)
    if (message.kind === 'execute' || message.kind === 'bind') core.implicit = true
  }
  const closes = batch.sync || !batch.showReady
  if (messages.length === 0 && !closes) return null
  messages.push(closes ? SYNC : FLUSH)
  core.unsynced = true
  const result = await core.link.exchange(messages, {
    relay: true,
    until: closes ? 'ready' : replies,
    ready: batch.showReady ? 'relay' : 'hide',
    hide,
    lease: batch.work?.lease ?? null,
  })
  for (let i = 0; i < batch.steps.length; i++) {
    noteStep(core, batch.steps[i]!, answers[i]! - result.replies)
    if (batch.steps[i]!.message.kind === 'execute' && answers[i]! < result.replies) core.tally.ran()
  }
  rememberDescriptions(core, batch.steps, result)
  // PostgreSQL skips to Sync by itself; what is left of the batch must not be run elsewhere.
  if (result.failed !== null && !(closes && batch.showReady)) {
    core.skipping = true
    const open = core.transaction
    if (open.kind === 'held') core.transaction = { kind: 'failed', isolation: open.isolation, readOnly: open.readOnly }
  }
  if (closes) afterReady(core)
  return result.failed
}

/** `ahead`: negative if PostgreSQL has done it, 0 if that is where the error came, positive if it was skipped. */
function noteStep(core: SessionCore, { message, prepared, portal }: Step, ahead: number): void {
  // A Parse that fails has dropped the unnamed statement before.
  if (ahead === 0 && message.kind === 'parse' && message.name === '') core.statements.delete('')
  if (ahead >= 0) return
  switch (message.kind) {
    case 'parse':
      core.statements.set(message.name, prepared!)
      break
    case 'bind':
      if (portal === null) core.portals.delete(message.portal)
      else {
        portal.home = 'source'
        core.portals.set(message.portal, portal)
      }
      break
    case 'close':
      if (message.target === 'statement') core.statements.delete(message.name)
      else core.portals.delete(message.name)
  }
}

export async function runQueryOnSource(
  core: SessionCore,
  options: { bytes: Buffer; work: Work | null; showReady: boolean },
): Promise<ExchangeResult> {
  core.statements.unnamedReplaced()
  const result = await core.link.exchange([options.bytes], {
    relay: true,
    until: 'ready',
    ready: options.showReady ? 'relay' : 'hide',
    lease: options.work?.lease ?? null,
  })
  afterReady(core)
  return result
}

/** PostgreSQL has said ReadyForQuery: who is where follows from its status. */
export function afterReady(core: SessionCore): void {
  core.unsynced = false
  core.implicit = false
  const work = core.sourceWork
  core.sourceWork = null
  if (core.link.status === 'idle') {
    work?.end()
    if (core.transaction.kind === 'source' || core.transaction.kind === 'idle') core.transactionEnded()
    return
  }
  if (core.transaction.kind === 'idle') {
    // BEGIN inside a text of several statements: the open transaction has touched what the text has.
    const { gate } = core.context
    const open = work === null ? null : gate.beginSource({ explicit: true, began: work.began })
    for (const touch of work?.read ?? []) gate.touch(open!, { touch, writes: false })
    for (const touch of work?.wrote ?? []) gate.touch(open!, { touch, writes: true })
    core.transaction = { kind: 'source', work: open, snapshot: core.settings.isolation !== 'read committed' }
  }
  work?.end()
}

/** The gateway refuses a statement of a transaction that PostgreSQL has open: it must not go on without that statement. */
export async function failOnSource(core: SessionCore): Promise<void> {
  core.statements.unnamedReplaced()
  await core.link.exchange([FAIL_TRANSACTION], { relay: false, until: 'ready' })
  afterReady(core)
}

/** What PostgreSQL has just told the client of statements, so that it need not be asked again. */
function rememberDescriptions(core: SessionCore, steps: readonly Step[], result: ExchangeResult): void {
  const { role, searchPathText } = core.settings
  if (core.settingsStale) return
  let at = 0
  for (const { message, prepared, planned } of steps) {
    if (message.kind !== 'describe') continue
    while (at < result.kept.length && result.kept[at]!.type === BACKEND.commandComplete) at++
    const first = at
    if (message.target === 'statement') at++
    at++
    if (at > result.kept.length) return
    if (message.target !== 'statement' || prepared === null || planned?.plan.kind !== 'keyed') continue
    const description = descriptionOf(result.kept.slice(first, at))
    const key = { sql: prepared.sql, searchPath: searchPathText, role, declaredOids: prepared.declaredOids }
    core.context.descriptions.set(key, description)
    prepared.description = description
    prepared.describedFor = core.describedFor()
  }
}
