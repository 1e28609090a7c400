// Promises: one seed, one life of a move: gateways, controllers, clients and a direct writer, orders there and back, faults, and at the end,
// in calm weather, everything home and compared. Every check that failed is a sentence.

import { hashSlotOf } from '../../src/model/key.ts'
import { POTS } from '../commit/fake-plans.ts'
import { Clients } from './clients.ts'
import { Controller } from './controller.ts'
import type { Coverage } from './coverage.ts'
import { Faults } from './faults.ts'
import { Feed } from './feed.ts'
import { Gateway } from './gateway.ts'
import { START_AMOUNT } from './postgres.ts'
import { KEYS, POT_NAMES, ROW_NAMES, SLOTS, World } from './world.ts'

export interface Scenario {
  /** By name: of one name several may run. */
  readonly gateways: readonly string[]
  readonly controllers: number
  readonly clients: number
  readonly transactions: number
}

export const SCENARIOS: Readonly<Record<string, Scenario>> = {
  full: { gateways: ['gateway 0', 'gateway 1', 'gateway 1'], controllers: 2, clients: 4, transactions: 100 },
}

export interface SeedReport {
  readonly seed: number
  readonly events: number
  readonly violations: readonly string[]
  readonly flips: { readonly routed: number; readonly cancelled: number }
  readonly totals: { readonly acked: number; readonly unknown: number; readonly refused: number; readonly reads: number }
  /** Aggregates with transactions that came back from the target. */
  readonly aggregatesApplied: number
  /** Keys for which the search for an order was given up: too much overlaps. */
  readonly undecided: number
  readonly coverage: Coverage
  readonly trace: readonly string[]
}

const STORM_MAX_MS = 30_000
const CALM_MAX_MS = 20_000

export async function runSeed(seed: number, scenario: Scenario, options: { readonly traced: boolean }): Promise<SeedReport> {
  const world = new World(seed, options)
  const { kernel, postgres } = world
  const gateways = scenario.gateways.map((name) => new Gateway(world, name))
  const controllers = Array.from({ length: scenario.controllers }, (_, i) => new Controller(world, `controller ${i}`))
  const feed = new Feed(world, gateways, controllers)
  const clients = new Clients(world, gateways, scenario.transactions)
  const faults = new Faults(world, gateways, controllers)
  try {
    await kernel.time.advance(100)
    clients.start(scenario.clients)
    feed.start()
    faults.start()
    await storm(world, scenario)
    faults.stop()
    kernel.heal()
    await calm(world)
  } catch (error) {
    kernel.violated('progress', error instanceof Error ? error.message : String(error))
  }
  const undecided = compare(world)
  return {
    seed,
    events: kernel.events,
    violations: [...kernel.violations, ...world.history.bad],
    flips: {
      routed: postgres.flips.filter(({ state }) => state === 'routed').length,
      cancelled: postgres.flips.filter(({ state }) => state === 'cancelled').length,
    },
    totals: world.history.totals(),
    aggregatesApplied: postgres.applied.size,
    undecided,
    coverage: world.coverage,
    trace: kernel.trace ?? [],
  }
}

/** Four orders, one of which is cancelled in the middle, and a read-only window before one of them, while everything fails. */
async function storm(world: World, scenario: Scenario): Promise<void> {
  const { kernel, postgres } = world
  const cancelled = kernel.random.int(4)
  let window: number | null = kernel.random.int(4)
  const orders = ['target', 'source', 'target', 'source'] as const
  let n = 0
  const until = kernel.now + STORM_MAX_MS
  while (kernel.now < until) {
    await kernel.time.advance(kernel.between(50, 150))
    const open = postgres.jobs.some(({ state }) => state === 'open')
    if (open) continue
    if (n === orders.length && world.begun >= scenario.transactions) return
    if (n === orders.length) continue
    const slots = kernel.chance(0.3) ? [kernel.oneOf(SLOTS)] : [...SLOTS]
    const to = orders[n]!
    const cancels = n === cancelled && window !== n
    const readOnly = window === n ? 'window' : to === 'source' && !cancels && kernel.chance(0.3) ? 'first' : null
    const what = readOnly === 'window' ? 'read-only for a while' : `to the ${to}${readOnly === null ? '' : ', read-only first'}`
    kernel.told('operator', () => `orders slots ${slots} ${what}${cancels ? ', and will cancel' : ''}`)
    postgres.jobs.push({ id: kernel.nextId(), to, slots, cancels, readOnly, state: 'open' })
    if (readOnly === 'window') {
      window = null
      continue
    }
    n++
    // Some work in between.
    await kernel.time.advance(kernel.between(100, 500))
  }
}

/** Whatever is open is done with, everything comes home, and nothing is left on its way. */
async function calm(world: World): Promise<void> {
  const { kernel, postgres } = world
  const wait = async (what: string, condition: () => boolean) => {
    const until = kernel.now + CALM_MAX_MS
    while (!condition()) {
      if (kernel.now > until) throw new Error(`in calm weather not within ${CALM_MAX_MS} ms: ${what}`)
      await kernel.time.advance(50)
    }
  }
  world.over = true
  await wait('the open orders are done', () => postgres.jobs.every(({ state }) => state === 'done'))
  postgres.jobs.push({ id: kernel.nextId(), to: 'source', slots: SLOTS, cancels: false, readOnly: null, state: 'open' })
  await wait('every slot is home', () =>
    SLOTS.map((slot) => postgres.owned(slot)).every(({ owner, phase, readOnly }) => owner === 'source' && phase === 'steady' && !readOnly),
  )
  await wait('no flip is open', () => postgres.flips.every(({ state }) => state === 'routed' || state === 'cancelled'))
  // Late duplicates and what clients still have under way.
  await kernel.time.advance(1_500)
  await wait('nobody holds a lock', () => postgres.writers().length === 0)
  await wait('the forward sync has acknowledged everything', () => postgres.confirmed >= (postgres.wal.at(-1)?.endLsn ?? 0n))
}

/** Returns how many searches for an order were given up. */
function compare({ kernel, postgres, store, history, log }: World): number {
  for (const key of KEYS) {
    let sum = 0
    for (const pot of ROW_NAMES) {
      const here = postgres.rows.get(key + pot)!.at(-1)!.value
      const there = store.row({ table: POTS, key, clustering: [pot] })?.values ?? null
      if (String(here.values) !== String(there))
        kernel.violated('parity', `${key}${pot} is ${here.values} in PostgreSQL, ${there} on the target`)
      sum += Number(here.values?.[2] ?? 0)
    }
    if (sum !== START_AMOUNT * POT_NAMES.length) kernel.violated('money', `${key} (slot ${hashSlotOf(key)}) sums to ${sum}`)
  }
  history.check()
  const { violations, undecided } = log.check()
  for (const one of violations) kernel.violated('linearizable', one)
  return undecided
}
