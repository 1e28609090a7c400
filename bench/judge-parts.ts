// Promises: what the judge's parts cost and how good they are: nanoseconds a record of a histogram and of hot keys, the recall of the twenty
// hottest, how soon a small canary names a key that would saturate, requests a second of a backtest from file to verdict. Times are of the
// processor, so that what else the machine does counts little; medians over the rounds.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { zipfPicker } from '../examples/ledger/zipf.ts'
import { Backtest } from '../src/app/backtest.ts'
import { TraceReader, traceSeconds } from '../src/app/judge-trace.ts'
import { openTextFile } from '../src/app/trace-file.ts'
import { HOT_KEYS_KEPT, HotKeys } from '../src/canary/hot-keys.ts'
import { JUDGE_DEFAULTS } from '../src/canary/judge.ts'
import { type Holds, NO_HOLDS, saturation, withHold } from '../src/canary/saturation.ts'
import { Histogram } from '../src/lib/histogram.ts'
import { type Random, seededRandom } from '../src/lib/prng.ts'
import { type BenchOptions, figure, type Measured, median, peer, quantile } from './measure.ts'

const KEYS = 100_000
const ZIPFS = [0.8, 1, 1.2]
const TOP = 20
const LATENCIES = 1 << 16
/** What a round takes little of is done often in it. */
const PASSES = 100
const TRACE_PER_SECOND = 1_000

type Options = Pick<BenchOptions, 'rounds' | 'quick' | 'say' | 'signal'>

export async function judgeParts(options: Options): Promise<Measured> {
  const [small, large] = options.quick ? [100_000, 60_000] : [1_000_000, 600_000]
  const rounds = Array.from({ length: options.rounds }, (_, round) => round + 1)
  const each = <T>(what: string, measure: (round: number) => T): T[] =>
    rounds.map((round) => {
      options.signal.throwIfAborted()
      options.say(`round ${round} of ${rounds.length}: ${what}`)
      return measure(round)
    })
  const histogramNs = each('histogram', histogramRecordNs)
  const hot = each('hot keys', (seed) => ZIPFS.map((zipf) => hotKeys(zipf, seed, small)))
  const named = each('saturation', (seed) => saturationNamedS(2, seed))
  const blocked = each('saturation', (seed) => saturationNamedS(0.4, seed)).filter((seconds) => seconds < NEVER_S)
  const trace = await backtests(options, rounds.length, large)
  return {
    figures: {
      histogramRecordNs: figure(median(histogramNs), 'ns', { atMost: 15 }),
      hotKeyRecordNs: figure(Math.max(...ZIPFS.map((_, i) => median(hot.map((one) => one[i]!.ns)))), 'ns', { atMost: 300 }),
      hotKeyRecallAt20: figure(Math.min(...hot.flat().map(({ recall }) => recall)), 'share', { atLeast: 1 }),
      hotKeyKilobytes: figure(hotKeyKilobytes(), 'KB', { atMost: 256 }),
      saturationNamedMedianS: figure(median(named), 's', { atMost: 300 }),
      saturationNamedP95S: figure(quantile(named, 0.95), 's', { atMost: 300 }),
      saturationFalseBlocks: figure(blocked.length, 'lives', { atMost: 0 }),
      backtestRequestsPerSecond: figure(median(trace.backtest), 'requests/s', { atLeast: 250_000 }),
    },
    peers: { jsonParsePerSecond: peer(median(trace.parse), 'lines/s') },
  }
}

/** Nanoseconds of processor time that one of `times` takes. */
function cpuNs(times: number, work: () => void): number {
  const before = process.cpuUsage()
  work()
  return (process.cpuUsage(before).user * 1_000) / times
}

export function histogramRecordNs(seed: number): number {
  const random = seededRandom(seed)
  const latenciesMs = Float64Array.from({ length: LATENCIES }, () => exponential(random, 10))
  const histogram = new Histogram()
  const ns = cpuNs(LATENCIES * PASSES, () => {
    for (let pass = 0; pass < PASSES; pass++) for (let i = 0; i < LATENCIES; i++) histogram.record(latenciesMs[i]!)
  })
  if (histogram.count !== LATENCIES * PASSES) throw new Error('a record was lost')
  return ns
}

/** The worst that can come: each key a text that was never seen before, as from the wire. */
export function hotKeys(zipf: number, seed: number, records: number): { readonly ns: number; readonly recall: number } {
  const random = seededRandom(seed)
  const pick = zipfPicker(KEYS, zipf, () => random.next())
  const truth = new Map<string, number>()
  const keys: string[] = []
  for (let i = 0; i < records; i++) {
    const key = Buffer.from(`account-${pick()}`).toString('latin1')
    keys.push(key)
    truth.set(key, (truth.get(key) ?? 0) + 1)
  }
  const sketch = new HotKeys()
  const ns = cpuNs(records, () => {
    for (const key of keys) sketch.record(key)
  })
  // A key as heavy as the twentieth is as good as it.
  const twentieth = [...truth.values()].toSorted((a, b) => b - a)[TOP - 1]!
  return { ns, recall: sketch.top(TOP).filter(({ key }) => truth.get(key)! >= twentieth).length / TOP }
}

/** Of one sketch that is full, its keys included, by what the heap grows by for many of them. */
export function hotKeyKilobytes(): number {
  const sketches: HotKeys[] = []
  const many = 50
  collect()
  const before = process.memoryUsage()
  for (let n = 0; n < many; n++) {
    const sketch = new HotKeys()
    for (let i = 0; i < 2 * HOT_KEYS_KEPT; i++) sketch.record(Buffer.from(`account-${n * 10_000 + i}`).toString('latin1'))
    sketches.push(sketch)
  }
  collect()
  const after = process.memoryUsage()
  if (sketches.some(({ size }) => size !== HOT_KEYS_KEPT)) throw new Error('a sketch is not full')
  return (after.heapUsed + after.arrayBuffers - before.heapUsed - before.arrayBuffers) / many / 1_024
}

/** What is garbage must not count. */
function collect(): void {
  setFlagsFromString('--expose-gc')
  ;(runInNewContext('gc') as () => void)()
}

const NEVER_S = 1_800
const LOOK_S = 10
const HOLD_MS = 20
/** The hot key's share of all requests; the canary of 1 % does not hold it. */
const HOT_SHARE = 0.05
const CANARY_SHARE = 0.01

/** Seconds until a key of this rho at 100 % is blocked, by a canary of 1 % looked at every ten seconds; NEVER_S: it is not. */
export function saturationNamedS(rho: number, seed: number): number {
  const random = seededRandom(seed)
  const hotPerSecond = (rho * 1_000) / HOLD_MS
  const canaryPerSecond = (hotPerSecond / HOT_SHARE) * CANARY_SHARE
  let [arrivals, pool]: [number, Holds] = [0, NO_HOLDS]
  let [nextHot, nextCanary] = [exponential(random, 1 / hotPerSecond), exponential(random, 1 / canaryPerSecond)]
  for (let second = LOOK_S; second <= NEVER_S; second += LOOK_S) {
    for (; nextHot < second; nextHot += exponential(random, 1 / hotPerSecond)) arrivals++
    // A commit of three round trips, of which one in a while is slow.
    for (; nextCanary < second; nextCanary += exponential(random, 1 / canaryPerSecond))
      pool = withHold(pool, (random.next() < 0.02 ? 4 : 0.94) * (HOLD_MS / 2 + exponential(random, HOLD_MS / 2)))
    const keys = [{ key: 'hot', arrivals: { count: arrivals, error: 0 }, moved: null }]
    if (saturation({ windowMs: second * 1_000, queued: true, keys, pool, growth: 1 })[0]!.act === 'block') return second
  }
  return NEVER_S
}

function exponential(random: Random, mean: number): number {
  return -Math.log(1 - random.next()) * mean
}

async function backtests(options: Options, rounds: number, requests: number) {
  const folder = mkdtempSync(join(tmpdir(), 'switchback-bench-trace-'))
  try {
    const file = join(folder, 'trace.jsonl')
    const lines = traceLines(requests)
    writeFileSync(file, `${lines.join('\n')}\n`)
    const [backtest, parse]: [number[], number[]] = [[], []]
    for (let round = 0; round < rounds; round++) {
      options.say(`round ${round + 1} of ${rounds}: backtest`)
      backtest.push(await backtestRequestsPerSecond(file, options.signal))
      parse.push(1e9 / parseNs(lines))
    }
    return { backtest, parse }
  } finally {
    rmSync(folder, { recursive: true })
  }
}

function parseNs(lines: readonly string[]): number {
  return cpuNs(lines.length, () => {
    for (const line of lines) JSON.parse(line)
  })
}

/** Of one core: user and system time of the process. */
export async function backtestRequestsPerSecond(file: string, signal: AbortSignal): Promise<number> {
  const before = process.cpuUsage()
  const reader = new TraceReader({ file })
  const run = new Backtest({ ...JUDGE_DEFAULTS, sloMs: null })
  const { texts, torn } = openTextFile(file, signal)
  for await (const second of traceSeconds(reader, texts, torn)) run.second(second)
  if (run.verdicts.length > 0) throw new Error(`nothing was wrong, yet: ${JSON.stringify(run.verdicts)}`)
  const { user, system } = process.cpuUsage(before)
  return reader.totals().requests / ((user + system) / 1e6)
}

/** A fifth of the requests on the target, four statements. */
export function traceLines(requests: number): string[] {
  const random = seededRandom(1)
  return Array.from({ length: requests }, (_, i) =>
    JSON.stringify({
      tMs: 1_800_000_000_000 + (i * 1_000) / TRACE_PER_SECOND,
      arm: random.next() < 0.2 ? 'target' : 'source',
      statement: `update accounts set balance = balance + $1 where id = $2 -- ${i % 4}`,
      key: `account-${random.int(KEYS)}`,
      latencyMs: Math.round(1_000 * (5 + exponential(random, 5))) / 1_000,
      ok: random.next() >= 0.001,
    }),
  )
}
