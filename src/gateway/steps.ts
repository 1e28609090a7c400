// Promises: a batch of extended-protocol messages, each with the statement or portal it means, cut where transaction control
// stands between statements. Nothing is sent or changed here but the session's own notes of planned statements.
import type { PlannedStatement } from '../model/plan.ts'
import { violation } from '../wire/bytes.ts'
import {
  type BindMessage,
  type CloseMessage,
  type DescribeMessage,
  decodeFrontend,
  type ExecuteMessage,
  type ParseMessage,
} from '../wire/frontend.ts'
import type { ClientMessage } from './messages.ts'
import type { SessionCore } from './session-core.ts'
import type { Prepared } from './statements.ts'
import type { Portal } from './transaction.ts'

export interface Step {
  readonly bytes: Buffer
  readonly message: ParseMessage | BindMessage | DescribeMessage | ExecuteMessage | CloseMessage
  /** What Parse makes, Bind binds, Describe describes; null where it is not known here (SQL's own PREPARE, a cursor). */
  readonly prepared: Prepared | null
  readonly planned: PlannedStatement | null
  readonly portal: Portal | null
}

export interface Segment {
  readonly kind: 'control' | 'work'
  readonly steps: readonly Step[]
}

/** A statement or portal that was made in SQL: what it touches cannot be told. */
export const UNKNOWN_STATEMENT: PlannedStatement = {
  sql: '',
  plan: {
    kind: 'unroutable',
    reads: false,
    because: 'it was prepared or declared in SQL, out of sight',
    wouldRoute: 'prepare it with the extended protocol',
  },
}

/** The unnamed portal is made by Bind alone: where none is known there is none, and PostgreSQL says so. */
const NO_STATEMENT: PlannedStatement = { sql: '', plan: { kind: 'pass', pins: false } }

export async function resolveSteps(core: SessionCore, messages: readonly ClientMessage[]): Promise<Step[]> {
  const made = new Map<string, Prepared | null>()
  const bound = new Map<string, Portal | null>()
  const statement = (name: string) => (made.has(name) ? (made.get(name) ?? null) : (core.statements.get(name) ?? null))
  const portal = (name: string) => (bound.has(name) ? (bound.get(name) ?? null) : (core.portals.get(name) ?? null))
  const steps: Step[] = []
  for (const { type, body, bytes } of messages) {
    const message = decodeFrontend(type, body)
    switch (message.kind) {
      case 'parse': {
        const prepared: Prepared = { sql: message.sql, declaredOids: [...message.parameterTypes], onServer: false }
        const planned = await core.plan(prepared)
        made.set(message.name, prepared)
        steps.push({ bytes, message, prepared, planned, portal: null })
        break
      }
      case 'bind': {
        const prepared = statement(message.statement)
        const planned = prepared === null ? UNKNOWN_STATEMENT : await core.plan(prepared)
        const made: Portal | null = prepared === null ? null : { prepared, planned: planned, bind: message, home: 'undecided', rest: null }
        bound.set(message.portal, made)
        steps.push({ bytes, message, prepared, planned, portal: made })
        break
      }
      case 'describe':
      case 'close': {
        const prepared = message.target === 'statement' ? statement(message.name) : null
        const own = message.target === 'portal' ? portal(message.name) : null
        const planned = own?.planned ?? (prepared === null ? null : await core.plan(prepared))
        if (message.kind === 'close' && message.target === 'statement') made.set(message.name, null)
        if (message.kind === 'close' && message.target === 'portal') bound.set(message.name, null)
        steps.push({ bytes, message, prepared, planned, portal: own })
        break
      }
      case 'execute': {
        const own = portal(message.portal)
        const unknown = message.portal === '' ? NO_STATEMENT : UNKNOWN_STATEMENT
        steps.push({ bytes, message, prepared: own?.prepared ?? null, planned: own?.planned ?? unknown, portal: own })
        break
      }
      default:
        throw violation(`a message of type 0x${type.toString(16)} in a batch`)
    }
  }
  return steps
}

/** Named control statements are prepared on PostgreSQL like any other; what runs them is the gateway's. */
export function segmentsOf(steps: readonly Step[]): Segment[] {
  const segments: { kind: Segment['kind']; steps: Step[] }[] = []
  for (const step of steps) {
    const controls = step.planned?.plan.kind === 'control' && !(step.message.kind === 'parse' && step.message.name !== '')
    const kind = controls ? 'control' : 'work'
    const last = segments.at(-1)
    // Each execution of transaction control is a segment of its own.
    const closed = last !== undefined && last.kind === 'control' && last.steps.some((before) => before.message.kind === 'execute')
    if (last === undefined || last.kind !== kind || closed) segments.push({ kind, steps: [step] })
    else last.steps.push(step)
  }
  return segments
}
