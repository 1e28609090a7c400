// Promises: evidence for the judge's tests: arms of which so many requests were slow, and a quiet day of them under a seed.
import type { ArmCounts, Arms } from '../../src/canary/arm-counts.ts'
import type { Evidence } from '../../src/canary/judge.ts'
import { latenciesOf } from '../../src/canary/latencies.ts'
import { type Random, seededRandom } from '../../src/lib/prng.ts'

export const QUICK_MS = 10
export const SLOW_MS = 40
export const HARM_MS = 140

export interface Mix {
  readonly requests: number
  /** As slow as one in a hundred always is. */
  readonly slow?: number
  /** Slower than any is when nothing is wrong. */
  readonly harmed?: number
  readonly errors?: number
}

export function arm({ requests, slow = 0, harmed = 0, errors = 0 }: Mix): ArmCounts {
  const latencies = latenciesOf([QUICK_MS, SLOW_MS, HARM_MS])
  const counts = [requests - slow - harmed, slow, harmed]
  const some = counts.flatMap((count, i) => (count > 0 ? [i] : []))
  return {
    requests,
    errors,
    wrongWrites: 0,
    latencies: { buckets: some.map((i) => latencies.buckets[i]!), counts: some.map((i) => counts[i]!) },
  }
}

/** How many of `n` coins of bias `p` fall. */
export function coins(random: Random, n: number, p: number): number {
  let sum = 0
  for (let i = 0; i < n; i++) if (random.next() < p) sum++
  return sum
}

export interface Day {
  readonly seed: number
  readonly seconds: number
  /** Share of the canary's requests that are harmed, and that fail, from this second on. */
  readonly harm?: { readonly fromSecond: number; readonly share: number; readonly errorShare?: number }
  readonly canaryPerSecond?: number
  readonly controlPerSecond?: number
}

/** A span a second: two in a hundred are slow on either arm, four in a thousand harmed, one in a thousand fails. */
export function* day({ seed, seconds, harm, canaryPerSecond = 100, controlPerSecond = 400 }: Day): Generator<Arms> {
  const random = seededRandom(seed)
  const draw = (requests: number, share: number, errorShare: number): ArmCounts => {
    const harmed = coins(random, requests, 0.004 + share)
    return arm({ requests, harmed, slow: coins(random, requests - harmed, 0.02), errors: coins(random, requests, errorShare) })
  }
  for (let second = 0; second < seconds; second++) {
    const on = harm !== undefined && second >= harm.fromSecond
    yield {
      canary: draw(canaryPerSecond, on ? harm.share : 0, on ? (harm.errorShare ?? 0.001) : 0.001),
      control: draw(controlPerSecond, 0, 0.001),
    }
  }
}

export const START_MS = 1_800_000_000_000

/** Evidence of the n-th second. */
export function evidenceAt(second: number, arms: Arms | null, more: Partial<Evidence> = {}): Evidence {
  const tMs = START_MS + second * 1_000
  return {
    tMs,
    spanMs: 1_000,
    step: 1,
    statements: arms === null ? null : { deposit: arms },
    parity: { tMs, differences: 0 },
    lag: { tMs, ms: 5 },
    saturation: [],
    ...more,
  }
}
