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
  postgres.isHeld = (lease) => gateways.some(({ host, lease: own }) => !host.dead && own?.id === lease)
  const feed = new Feed(world, gateways, controllers)
  const clients = new Clients(world, gateways)
  const faults = new Faults(world, { gateways, controllers, clients })
  try {
    await kernel.time.advance(100)
    clients.start(scenario.clients)
    feed.start()
    faults.start()
    await storm(world, scenario)
    faults.stop()
    kernel.heal()
    await calm(world, clients)
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

const ORDERS = ['target', 'source', 'target', 'source'] as const
/** Of the transactions: one before the first order, one while each is under way, one when it is done, so that each tenure has its own. */
const SHARES = 1 + 2 * ORDERS.length
/** Clients that are cut off hold no order up for longer. */
const SHARE_MAX_MS = 1_000

/** Orders there and back, twice; one that is cancelled in the middle is given again. A read-only window before one, while everything fails. */
async function storm(world: World, scenario: Scenario): Promise<void> {
  const { kernel, postgres } = world
  let cancelled: number | null = kernel.random.int(ORDERS.length)
  let window: number | null = kernel.random.int(ORDERS.length)
  let n = 0
  let shares = 1
  let sharedAt = kernel.now
  const share = () => {
    world.allowed = Math.round((scenario.transactions * shares) / SHARES)
    sharedAt = kernel.now
  }
  share()
  const until = kernel.now + STORM_MAX_MS
  while (kernel.now < until) {
    await kernel.time.advance(kernel.between(50, 150))
    if (postgres.jobs.some(({ state }) => state === 'open')) continue
    if (shares < 1 + 2 * n) {
      shares = 1 + 2 * n
      share()
    }
    if (world.begun < world.allowed && (n === ORDERS.length || kernel.now < sharedAt + SHARE_MAX_MS)) continue
    if (n === ORDERS.length) return
    const slots = kernel.chance(0.3) ? [kernel.oneOf(SLOTS)] : [...SLOTS]
    const to = ORDERS[n]!
    const cancels = n === cancelled && window !== n
    const readOnly = window === n ? 'window' : to === 'source' && !cancels && kernel.chance(0.3) ? 'first' : null
    const what = readOnly === 'window' ? 'read-only for a while' : `to the ${to}${readOnly === null ? '' : ', read-only first'}`
    kernel.told('operator', () => `orders slots ${slots} ${what}${cancels ? ', and will cancel' : ''}`)
    postgres.jobs.push({ id: kernel.nextId(), to, slots, cancels, readOnly, state: 'open' })
    if (readOnly === 'window') window = null
    else if (cancels) cancelled = null
    else {
      n++
      shares = 2 * n
      share()
    }
  }
}

/** Whatever is open is done with, everything goes out and comes home, served in either place, and nothing is left on its way. */
async function calm(world: World, clients: Clients): Promise<void> {
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
  for (const to of ['target', 'source'] as const) {
    postgres.jobs.push({ id: kernel.nextId(), to, slots: SLOTS, cancels: false, readOnly: null, state: 'open' })
    await wait(`every slot is the ${to}'s`, () =>
      SLOTS.map((slot) => postgres.owned(slot)).every(({ owner, phase, readOnly }) => owner === to && phase === 'steady' && !readOnly),
    )
    const served = clients.eachKeyTakesOne()
    await wait(`each key takes a write on the ${to}`, () => served.size === KEYS.length)
  }
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
