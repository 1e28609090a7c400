// Promises: that spans drawn at once are those drawn request by request: under the same weather, with other chance, both give the same
// distributions of what the judge looks at (two-sample chi-square).
import { countFrom, firstBucketFrom } from '../../src/canary/latencies.ts'
import { categoryOf } from '../../src/canary/splits.ts'
import { type Random, seededRandom } from '../../src/lib/prng.ts'
import { normalAbove } from './draws.ts'
import { type Draw, drawArms, drawRequests, drawSpan, type Harm, NO_HARM, type Rates } from './service.ts'
import { WORLDS, World } from './world.ts'

const X0_MS = 1.25 * 45

export interface Sameness {
  readonly leastChance: number
  readonly spans: number
  readonly comparisons: number
}

/** The least of the chances of differences as large as those seen, over all that is compared, times their number (Bonferroni). */
export function sameness(seed: number, spans: number, rates: Rates, spanS: number, signal: AbortSignal): Sameness {
  const chances: number[] = []
  for (const harm of [NO_HARM, { hotShare: 0.03, errorShare: 0.01 }]) {
    const [some, others] = [drawSpan, drawRequests].map((draw, i) =>
      tallies({ draw, harm, seed, chance: seededRandom(seed + 1 + i), spans, rates, spanS, signal }),
    )
    for (const name of Object.keys(some!)) chances.push(chiSquareChance(some![name]!, others![name]!))
  }
  return { leastChance: Math.min(1, Math.min(...chances) * chances.length), spans, comparisons: chances.length }
}

interface Sample {
  readonly draw: Draw
  readonly harm: Harm
  readonly seed: number
  readonly chance: Random
  readonly spans: number
  readonly rates: Rates
  readonly spanS: number
  readonly signal: AbortSignal
}

function tallies({ draw, harm, seed, chance, spans, rates, spanS, signal }: Sample): Record<string, Map<number, number>> {
  const weather = new World(WORLDS.harsh, seededRandom(seed))
  const of: Record<string, Map<number, number>> = {
    requests: new Map(),
    over: new Map(),
    controlOver: new Map(),
    category: new Map(),
    errors: new Map(),
    bucket: new Map(),
  }
  const count = (name: string, value: number, times = 1) => of[name]!.set(value, (of[name]!.get(value) ?? 0) + times)
  const x0 = firstBucketFrom(X0_MS)
  for (let span = 0; span < spans; span++) {
    if (span % 100 === 0) signal.throwIfAborted()
    const { canary, control } = drawArms(chance, weather.next(spanS), { rates, spanS, harm, draw })
    const [a, k] = [countFrom(canary.latencies, x0), countFrom(control.latencies, x0)]
    count('requests', canary.requests)
    count('over', a)
    count('controlOver', k)
    count('category', categoryOf(a, canary.requests, k, control.requests))
    count('errors', canary.errors)
    canary.latencies.buckets.forEach((bucket, i) => {
      count('bucket', bucket, canary.latencies.counts[i]!)
    })
  }
  return of
}

/** Values that are rare in both go together. */
const LEAST_IN_CELL = 20

export function chiSquareChance(some: ReadonlyMap<number, number>, others: ReadonlyMap<number, number>): number {
  const values = [...new Set([...some.keys(), ...others.keys()])].sort((a, b) => a - b)
  const cells: [number, number][] = []
  let open: [number, number] = [0, 0]
  for (const value of values) {
    open = [open[0] + (some.get(value) ?? 0), open[1] + (others.get(value) ?? 0)]
    if (open[0] + open[1] < 2 * LEAST_IN_CELL) continue
    cells.push(open)
    open = [0, 0]
  }
  const last = cells.at(-1)
  if (last === undefined) return 1
  last[0] += open[0]
  last[1] += open[1]
  const [a, b] = cells.reduce(([x, y], [s, t]) => [x + s, y + t], [0, 0])
  let chi = 0
  for (const [s, t] of cells) chi += (Math.sqrt(b / a) * s - Math.sqrt(a / b) * t) ** 2 / (s + t)
  const degrees = cells.length - 1
  if (degrees === 0) return 1
  // Wilson and Hilferty: the cube root of chi-square over its degrees is nearly normal.
  return normalAbove((Math.cbrt(chi / degrees) - (1 - 2 / (9 * degrees))) / Math.sqrt(2 / (9 * degrees)))
}
