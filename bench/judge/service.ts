// Promises: what both arms of a payments service are seen to do in a span, by the weather and an incident: drawn a span at a time from the
// exact distribution of requests that are independent within it, or request by request, which is the same and slower.
import type { ArmCounts, Arms } from '../../src/canary/arm-counts.ts'
import { bucketOf } from '../../src/canary/latencies.ts'
import { LAST_BUCKET } from '../../src/lib/float-buckets.ts'
import type { Random } from '../../src/lib/prng.ts'
import { binomial, normal, normalAbove, normalQuantileAbove, poisson } from './draws.ts'
import type { ArmMoment, Moment } from './world.ts'

/** Lognormal, P99 45 ms. */
const MEDIAN_MS = 8
const SPREAD = Math.log(45 / MEDIAN_MS) / 2.3263478740408408
/** Latencies below this are told as one bucket: no bound of the judge comes so low. */
const BULK_MS = 30
const BULK_BUCKET = bucketOf(MEDIAN_MS)

export interface Harm {
  /** This share of the canary's requests waits for a hot key: they take 119 ms at the median, so that the P99 of all is 139 ms. */
  readonly hotShare: number
  readonly errorShare: number
}

export const NO_HARM: Harm = { hotShare: 0, errorShare: 0 }
const HOT_MEDIAN_MS = 119
const HOT_SPREAD = 0.35

export type Draw = (random: Random, n: number, moment: ArmMoment, harm: Harm) => ArmCounts

export interface Rates {
  readonly canary: number
  readonly control: number
}

export function drawArms(
  random: Random,
  moment: Moment,
  { rates, spanS, harm, draw }: { readonly rates: Rates; readonly spanS: number; readonly harm: Harm; readonly draw: Draw },
): Arms {
  const requests = (perSecond: number) => poisson(random, perSecond * moment.rate * spanS)
  return {
    canary: draw(random, requests(rates.canary), moment.canary, harm),
    control: draw(random, requests(rates.control), moment.control, NO_HARM),
  }
}

/** Only what is over the bulk is drawn one by one. */
export const drawSpan: Draw = (random, n, { slowness, pauses, errorShare }, harm) => {
  const buckets: number[] = []
  let left = n
  const pausedMs: number[] = []
  for (const { share, ms } of pauses) {
    const paused = binomial(random, left, share)
    left -= paused
    for (let i = 0; i < paused; i++) pausedMs.push(ms)
  }
  const hot = binomial(random, left, harm.hotShare)
  left -= hot
  for (const pausedFor of pausedMs) {
    const ms = usualMs(random, slowness) + pausedFor * random.next()
    if (ms >= BULK_MS) buckets.push(bucketOf(ms))
  }
  for (let i = 0; i < hot; i++) {
    const ms = hotMs(random)
    if (ms >= BULK_MS) buckets.push(bucketOf(ms))
  }
  const over = normalAbove(Math.log(BULK_MS / (MEDIAN_MS * slowness)) / SPREAD)
  const tail = binomial(random, left, over)
  for (let i = 0; i < tail; i++) {
    const z = normalQuantileAbove(Math.max(Number.MIN_VALUE, random.next() * over))
    buckets.push(bucketOf(MEDIAN_MS * slowness * Math.exp(SPREAD * z)))
  }
  return counted(random, n, buckets, errorShare + harm.errorShare)
}

export const drawRequests: Draw = (random, n, { slowness, pauses, errorShare }, harm) => {
  const buckets: number[] = []
  for (let i = 0; i < n; i++) {
    const pause = pauses.find(({ share }) => random.next() < share)
    const ms =
      pause !== undefined
        ? usualMs(random, slowness) + pause.ms * random.next()
        : random.next() < harm.hotShare
          ? hotMs(random)
          : usualMs(random, slowness)
    if (ms >= BULK_MS) buckets.push(bucketOf(ms))
  }
  return counted(random, n, buckets, errorShare + harm.errorShare)
}

function usualMs(random: Random, slowness: number): number {
  return MEDIAN_MS * slowness * Math.exp(SPREAD * normal(random))
}

function hotMs(random: Random): number {
  return HOT_MEDIAN_MS * Math.exp(HOT_SPREAD * normal(random))
}

const tally = new Uint32Array(LAST_BUCKET + 1)

/** `buckets` of the requests over the bulk, in any order. */
function counted(random: Random, n: number, buckets: readonly number[], errorShare: number): ArmCounts {
  if (n > buckets.length) tally[BULK_BUCKET] = n - buckets.length
  let highest = BULK_BUCKET
  for (const bucket of buckets) {
    tally[bucket]!++
    if (bucket > highest) highest = bucket
  }
  const latencies = { buckets: [] as number[], counts: [] as number[] }
  for (let bucket = BULK_BUCKET; bucket <= highest; bucket++) {
    const count = tally[bucket]!
    if (count === 0) continue
    latencies.buckets.push(bucket)
    latencies.counts.push(count)
    tally[bucket] = 0
  }
  return { requests: n, errors: binomial(random, n, errorShare), wrongWrites: 0, latencies }
}
