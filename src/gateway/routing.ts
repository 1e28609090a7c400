// Promises: where the statements of one batch go together, decided before anything is sent. Statements between two Syncs are one
// transaction in PostgreSQL, so they go to one store, and on the target to one aggregate.
import { SwitchbackError } from '../model/errors.ts'
import type { AggregateKey } from '../model/key.ts'
import type { Ownership } from '../model/ownership.ts'
import type { KeyedPlan, Params, PlannedStatement } from '../model/plan.ts'
import type { FenceGate, StatementFacts, Work } from './fence-gate.ts'

/** One statement with its parameters, as far as its key needs them. */
export interface Routable {
  readonly planned: PlannedStatement
  /** Null: the parameters could not be read, and `why` says so. */
  readonly params: Params | null
  readonly why?: string
  /** What it touched when that was last asked; undefined: it was not. */
  touches?: Touches
}

/** What a statement touches; null: nothing mapped. */
export type Touches = (StatementFacts & { readonly key: AggregateKey | null; readonly plan: KeyedPlan | null }) | null

export type Route =
  | { readonly arm: 'source'; readonly touches: readonly StatementFacts[] }
  | { readonly arm: 'target'; readonly row: Ownership; readonly key: AggregateKey; readonly writes: boolean }

export function touchesOf(statement: Routable, gate: FenceGate, shadowed: boolean): Touches {
  statement.touches = touchedBy(statement, gate, shadowed)
  return statement.touches
}

function touchedBy(statement: Routable, gate: FenceGate, shadowed: boolean): Touches {
  const { plan } = statement.planned
  if (plan.kind === 'unroutable') {
    return { touch: 'all', writes: !plan.reads, because: plan.because, wouldRoute: plan.wouldRoute, key: null, plan: null }
  }
  if (plan.kind !== 'keyed') return null
  const writes = !plan.readOnly || plan.locks
  const unkeyed = (because: string, wouldRoute: string): Touches => ({ touch: 'all', writes, because, wouldRoute, key: null, plan: null })
  if (shadowed)
    return unkeyed(
      'a temporary table has the name of a mapped one, or client_encoding is not UTF8',
      'there were no such table and UTF8 were used',
    )
  if (statement.params === null) return unkeyed(statement.why ?? 'its parameters cannot be read', 'send the key in its own type')
  let key: AggregateKey | null
  try {
    key = plan.key(statement.params)
  } catch (error) {
    return unkeyed(error instanceof Error ? error.message : String(error), 'send the key in its own type')
  }
  // SQL's null equals no key: PostgreSQL answers it, whoever owns what.
  if (key === null) return null
  const view = gate.view
  if (view === null) throw new SwitchbackError('NO_LEASE')
  return { touch: view.slotOf(key), writes, key, plan }
}

/** SQL's null, or a value that no key can have: it needs no rows, on whichever store it runs. */
function keyless({ planned: { plan }, params }: Routable): boolean {
  if (plan.kind !== 'keyed' || params === null) return false
  try {
    return plan.key(params) === null
  } catch {
    return false
  }
}

/** Routes work that begins: waits while a slot is in flip, then decides for all statements in one turn. */
export async function routeBeginning(
  statements: readonly Routable[],
  options: { gate: FenceGate; shadowed: boolean; bytes: number; signal: AbortSignal },
): Promise<Route> {
  const { gate } = options
  for (;;) {
    let parked = false
    for (const statement of statements) {
      const touches = touchesOf(statement, gate, options.shadowed)
      if (touches === null || gate.decide(touches).kind !== 'park') continue
      const decision = await gate.admit(touches, options.bytes, options.signal)
      if (decision.kind === 'refuse') throw decision.error
      parked = true
    }
    if (!parked) return routeNow(statements, gate, options.shadowed)
  }
}

function routeNow(statements: readonly Routable[], gate: FenceGate, shadowed: boolean): Route {
  const touches: StatementFacts[] = []
  let target: { row: Ownership; key: AggregateKey; writes: boolean } | null = null
  let elsewhere: string | null = null
  let anyWrites = false
  for (const statement of statements) {
    const facts = touchesOf(statement, gate, shadowed)
    if (facts === null) {
      if (keyless(statement)) continue
      elsewhere ??= 'a statement of it touches no mapped table, or is not keyed'
      continue
    }
    const decision = gate.decide(facts)
    if (decision.kind === 'refuse') throw decision.error
    if (decision.kind === 'target') {
      if (target !== null && target.key !== facts.key) throw crosses(target.key, facts.key!)
      target = { row: decision.row, key: facts.key!, writes: facts.writes || anyWrites }
      anyWrites = target.writes
    } else {
      touches.push(facts)
      elsewhere = facts.key === null ? 'a statement of it runs on PostgreSQL' : `key ${facts.key} is on PostgreSQL`
    }
  }
  if (target === null) return { arm: 'source', touches }
  if (elsewhere !== null) throw new SwitchbackError('CROSSES_OWNERS', { because: `key ${target.key} has moved; ${elsewhere}` })
  return { arm: 'target', ...target }
}

/** A further batch of a transaction that is open on PostgreSQL. */
export function routeOnSource(
  statements: readonly Routable[],
  options: { gate: FenceGate; shadowed: boolean; work: Work | null },
): readonly StatementFacts[] {
  const touches: StatementFacts[] = []
  for (const statement of statements) {
    const facts = touchesOf(statement, options.gate, options.shadowed)
    if (facts === null) continue
    const { gate, work } = options
    if (work !== null) {
      const refused = gate.join(work, facts)
      if (refused !== null) throw refused
    } else {
      const decision = gate.decide(facts)
      if (decision.kind === 'refuse') throw decision.error
      // Never parked: others may wait for the transaction's locks (protocols.md, The flip, 3).
      if (decision.kind === 'park') throw new SwitchbackError('KEY_MOVED')
      if (decision.kind === 'target') throw new SwitchbackError('CROSSES_OWNERS', { because: `key ${facts.key} has moved` })
    }
    touches.push(facts)
  }
  return touches
}

/** A further batch of a transaction that is open on the target: the same aggregate, and nothing else. */
export function checkOnTarget(statements: readonly Routable[], options: { gate: FenceGate; shadowed: boolean; key: AggregateKey }): void {
  for (const statement of statements) {
    const { plan, sql } = statement.planned
    if (plan.kind === 'session') throw new SwitchbackError('NOT_ON_TARGET', { what: `"${sql.slice(0, 40)}"` })
    const facts = touchesOf(statement, options.gate, options.shadowed)
    if (facts === null) {
      if (keyless(statement)) continue
      throw new SwitchbackError('CROSSES_OWNERS', { because: `key ${options.key} has moved; a statement of it runs on PostgreSQL` })
    }
    if (facts.key === null) throw new SwitchbackError('UNROUTABLE', { because: facts.because ?? '', wouldRoute: facts.wouldRoute ?? '' })
    if (facts.key !== options.key) throw crosses(options.key, facts.key)
    const row = options.gate.view?.ownership(facts.touch as number)
    if (facts.writes && row?.readOnly === true) throw new SwitchbackError('SLOT_READ_ONLY')
  }
}

function crosses(first: AggregateKey, second: AggregateKey): SwitchbackError {
  return new SwitchbackError('CROSSES_AGGREGATES', { first, second })
}
