// Promises: what the commit engine costs beside the store itself: the same transaction by the engine and by the same store calls
// written by hand with the same overlaps, transaction by transaction in turn, one at a time, on the memory target and on dynalite.
import { randomUUID } from 'node:crypto'
import { createExecutor } from '../src/commit/executor.ts'
import { systemClock } from '../src/lib/clock.ts'
import { systemRandom } from '../src/lib/prng.ts'
import type { AggregateAddress, LeaseHandle, TargetExecutor } from '../src/model/executor.ts'
import type { Head, OutboxEntry } from '../src/model/head.ts'
import { groupOfHashSlot, hashSlotOf } from '../src/model/key.ts'
import type { Row, RowChange, RowKey } from '../src/model/row.ts'
import type { Target } from '../src/model/target.ts'
import { ACCOUNTS, accountPuts, accountRow, accountsMapping } from './accounts.ts'
import { DEPOSIT, deposited, STATEMENT_ENV } from './deposit.ts'
import { type BenchOptions, type Figure, figure, type Measured, median, medianRatio, type Peer, peer, quantile } from './measure.ts'
import { countTrips } from './round-trips.ts'
import { dynaliteStore, memoryStore, type Store } from './stores.ts'

const TENURE = 2
const BASE = 1_000n
const MAPPING = accountsMapping('bench')
const LEASE: LeaseHandle = { id: 'bench', holds: () => true }
const GOAL = { atMost: 1.25 }
/** A round's transactions: dynalite takes some milliseconds a call. */
const TRANSACTIONS: Readonly<Record<string, number>> = { memory: 1_000, dynalite: 300 }

export async function benchCommit(options: BenchOptions): Promise<Measured> {
  const figures: Record<string, Figure> = {}
  const peers: Record<string, Peer> = {}
  for (const [name, start] of [
    ['memory', memoryStore],
    ['dynalite', dynaliteStore],
  ] as const) {
    options.say(`commit on ${name}`)
    await using store = await start()
    await measureStore(name, store, options, figures, peers)
  }
  // One figure for the goal: the worse of the two stores.
  const worst = Math.max(figures['memoryRatioToRawCalls']!.value, figures['dynaliteRatioToRawCalls']!.value)
  return { figures: { ratioToRawCalls: figure(worst, 'x', GOAL), ...figures }, peers }
}

/** Median latencies of a round, milliseconds. */
interface Round {
  readonly engine: number
  readonly engineP99: number
  readonly raw: number
  readonly rawP99: number
  readonly engineAgain: number
  readonly rawAgain: number
  readonly native: number
}

async function measureStore(
  name: string,
  store: Store,
  options: BenchOptions,
  figures: Record<string, Figure>,
  peers: Record<string, Peer>,
): Promise<void> {
  const transactions = options.quick ? 50 : TRANSACTIONS[name]!
  const target = await store.open(MAPPING)
  const world = new World(target)
  const { trips, tripsAgain } = await countRoundTrips(target, world)
  await world.round(Math.ceil(transactions / 2)) // warms both sides up
  const rounds: Round[] = []
  for (let round = 0; round < options.rounds; round++) {
    options.signal.throwIfAborted()
    rounds.push(await world.round(transactions))
    const { engine, raw } = rounds.at(-1)!
    options.say(`round ${round + 1} of ${options.rounds}: engine ${engine.toFixed(3)} ms, raw calls ${raw.toFixed(3)} ms`)
  }
  const all = (pick: (round: Round) => number) => rounds.map(pick)
  figures[`${name}RatioToRawCalls`] = figure(
    medianRatio(
      all((r) => r.engine),
      all((r) => r.raw),
    ),
    'x',
    GOAL,
  )
  figures[`${name}RememberedRatioToRawCalls`] = figure(
    medianRatio(
      all((r) => r.engineAgain),
      all((r) => r.rawAgain),
    ),
    'x',
  )
  figures[`${name}RatioToNativeWrite`] = figure(
    medianRatio(
      all((r) => r.engine),
      all((r) => r.native),
    ),
    'x',
  )
  figures[`${name}RoundTrips`] = figure(trips, 'store calls')
  figures[`${name}RememberedRoundTrips`] = figure(tripsAgain, 'store calls')
  figures[`${name}P50Ms`] = figure(median(all((r) => r.engine)), 'ms')
  figures[`${name}P99Ms`] = figure(median(all((r) => r.engineP99)), 'ms')
  figures[`${name}RememberedP50Ms`] = figure(median(all((r) => r.engineAgain)), 'ms')
  peers[`${name}RawCallsP50Ms`] = peer(median(all((r) => r.raw)), 'ms')
  peers[`${name}RawCallsP99Ms`] = peer(median(all((r) => r.rawP99)), 'ms')
  peers[`${name}RememberedRawCallsP50Ms`] = peer(median(all((r) => r.rawAgain)), 'ms')
  peers[`${name}NativeWriteP50Ms`] = peer(median(all((r) => r.native)), 'ms')
}

async function countRoundTrips(target: Target, world: World): Promise<{ trips: number; tripsAgain: number }> {
  const counting = countTrips(target)
  const engine = executorOver(counting.target)
  const [key] = await world.freshKeys(1)
  await deposit(engine, key!)
  const trips = counting.take()
  await deposit(engine, key!)
  return { trips, tripsAgain: counting.take() }
}

class World {
  readonly #target: Target
  readonly #engine: TargetExecutor
  #keys = 0
  #sequence = 0

  constructor(target: Target) {
    this.#target = target
    this.#engine = executorOver(target)
  }

  /** Keys whose rows are there and have no head yet. */
  async freshKeys(count: number): Promise<string[]> {
    const first = this.#keys + 1
    this.#keys += count
    const keys = Array.from({ length: count }, (_, i) => String(first + i))
    const rows = accountPuts(1)[0]!
    await this.#target.putRows(keys.map((key) => ({ ...rows, key, values: accountRow(key, '1.0000') })))
    return keys
  }

  async round(transactions: number): Promise<Round> {
    const [engineKeys, rawKeys, nativeKeys] = [
      await this.freshKeys(transactions),
      await this.freshKeys(transactions),
      await this.freshKeys(transactions),
    ]
    const times = {
      engine: [] as number[],
      raw: [] as number[],
      native: [] as number[],
      engineAgain: [] as number[],
      rawAgain: [] as number[],
    }
    const timed = async <T>(into: number[], work: () => Promise<T>): Promise<T> => {
      const fromMs = performance.now()
      const value = await work()
      into.push(performance.now() - fromMs)
      return value
    }
    for (let i = 0; i < transactions; i++) {
      const raw = () => timed(times.raw, () => this.#raw(rawKeys[i]!, null))
      const engine = () => timed(times.engine, () => deposit(this.#engine, engineKeys[i]!))
      // In turn, and each as often first as second.
      if (i % 2 === 0) await engine()
      const known = await raw()
      if (i % 2 === 1) await engine()
      const rawAgain = () => timed(times.rawAgain, () => this.#raw(rawKeys[i]!, known))
      const engineAgain = () => timed(times.engineAgain, () => deposit(this.#engine, engineKeys[i]!))
      if (i % 2 === 0) await engineAgain()
      await rawAgain()
      if (i % 2 === 1) await engineAgain()
      await timed(times.native, () =>
        this.#target.putRows([{ ...rowKey(nativeKeys[i]!), values: accountRow(nativeKeys[i]!, '2.0000'), stamp: BASE, mark: false }]),
      )
    }
    return {
      engine: median(times.engine),
      engineP99: quantile(times.engine, 0.99),
      raw: median(times.raw),
      rawP99: quantile(times.raw, 0.99),
      engineAgain: median(times.engineAgain),
      rawAgain: median(times.rawAgain),
      native: median(times.native),
    }
  }

  /** The protocol's calls with its overlaps, and nothing else. `known`: what it wrote last, from which it starts without a read. */
  async #raw(key: string, known: { head: Head; row: Row } | null): Promise<{ head: Head; row: Row }> {
    const target = this.#target
    const [before, row] = known === null ? await this.#read(key) : [known.head, known.row]
    const version = (before?.version ?? 0) + 1
    const txnId = randomUUID()
    const values = deposited(row)
    const changes: readonly RowChange[] = [{ table: ACCOUNTS, clustering: [], values }]
    const prev = before?.txnId ?? null
    const recent = [...(before?.recent ?? []), { version, txnId }].slice(-16)
    const head: Head = { tenure: TENURE, version, txnId, prev, redo: changes, lock: null, recent }
    const slot = hashSlotOf(key)
    const entry: OutboxEntry = { key, slot, tenure: TENURE, version, txnId, prev, changes }
    const outbox = { group: groupOfHashSlot(slot), lease: 'raw' }
    const [cas] = await Promise.all([target.compareAndSetHead(key, before, head), target.appendEntry(outbox, ++this.#sequence, entry)])
    if (!cas.won) throw new Error('nobody else writes this key')
    await target.putRows([{ ...rowKey(key), values, stamp: BASE + BigInt(version), mark: false }])
    return { head, row: values }
  }

  async #read(key: string): Promise<[Head | null, Row]> {
    const [head, [row]] = await Promise.all([this.#target.readHead(key), this.#target.readRows([rowKey(key)])])
    return [head, row!.values!]
  }
}

function executorOver(target: Target): TargetExecutor {
  return createExecutor({
    target,
    mapping: MAPPING,
    clock: systemClock,
    random: systemRandom,
    flights: { enter() {}, leave() {} },
    settled: { settled() {} },
    txnIds: randomUUID,
  })
}

/** `update accounts set balance = balance + 1 where id = $1`. */
async function deposit(engine: TargetExecutor, key: string): Promise<void> {
  const slot = hashSlotOf(key)
  const address: AggregateAddress = { key, slot, group: groupOfHashSlot(slot), tenure: TENURE, base: BASE }
  const { commandTag } = await engine.autocommit(LEASE, address, DEPOSIT, [key], STATEMENT_ENV)
  if (commandTag !== 'UPDATE 1') throw new Error(`the deposit answered ${commandTag}`)
}

function rowKey(key: string): RowKey {
  return { table: ACCOUNTS, key, clustering: [] }
}
