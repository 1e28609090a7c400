// Promises: the next step only on proof (INV-10): a test of its own, apart from the detectors, since "no alarm" is no evidence of health. A
// reverse e-process against "the canary's share of requests over x0 is at least 1.5 times control's", over the coins of errors.ts:
//
//   E = mean over r in {.25, .5, .75, 1} of prod over blocks and slow requests of theta(r) / theta(1.5) or (1 - theta(r)) / (1 - theta(1.5))
//
// whose mean is at most 1 for every ratio of 1.5 or more (Ville: it reaches 20 with a chance of at most 1/20, whenever one looks). Blocks count
// in which at most a hundredth of both arms' requests is over x0, which is above control's P99. More is trouble that both share: there the arms
// are alike whatever the canary does at other times, and one burst would be proof enough. Which blocks count depends on how many requests were
// slow, not on whose they were, so the guarantee stays.
// Where the user has set a bound (SLO) that control's own tail is below, x0 is the bound, and of two arms that are both well within it hardly
// a request is over x0: E would stay 1 for ever. What the bound allows is no regression, so there a second e-process, against "a hundredth of
// the canary's requests or more is over the bound" (its P99 is not within it), stands beside the first, and the level is their mean:
//
//   E' = mean over p in {.00125, .0025, .005} of prod over blocks of (p / .01)^a ((1 - p) / .99)^(n - a)
//
// of every block whose x0 is the bound, which the requests before it decide. Promote at E >= 20 and with enough requests, the bake time, and parity and lag fresh and
// in bounds; else hold, with each reason. Pure; the state is plain JSON.
import { significant } from '../lib/significant.ts'
import { coinLogRatio } from './errors.ts'
import type { JudgedBlock } from './tail.ts'

const REFUTED = 1.5
const RATIOS = [0.25, 0.5, 0.75, 1]
export const PROMOTION_LEVEL = 20
/** Of both arms' requests over x0. */
const SHARED_TROUBLE = 0.01
/** E stays a number: e^300 of either sign is proof or none. */
const MOST_NATS = 300
/** Of the canary's requests over the bound: a P99 that is not within it. */
const SLO_REFUTED = 0.01
const SLO_SHARES = [0.00125, 0.0025, 0.005]

export interface PromotionTest {
  /** ln of the likelihood ratio of each alternative. */
  readonly nats: readonly number[]
  /** The same of the bound; null: no block had the bound as its x0. */
  readonly sloNats: readonly number[] | null
}

export const FRESH_PROMOTION: PromotionTest = { nats: RATIOS.map(() => 0), sloNats: null }

/** A block without control, or of a control that is gone, is no coin and proves nothing; one of shared trouble neither. */
export function promotionStep(
  { nats, sloNats }: PromotionTest,
  { a, n, k, m, frozen }: Pick<JudgedBlock, 'a' | 'n' | 'k' | 'm' | 'frozen'>,
): PromotionTest {
  if (frozen || n === 0 || m === 0 || a + k > SHARED_TROUBLE * (n + m)) return { nats, sloNats }
  return {
    nats: nats.map((nat, j) => {
      const next = nat + coinLogRatio(RATIOS[j]!, REFUTED, { e: a, n, f: k, m })
      return bounded(next)
    }),
    sloNats,
  }
}

/** Of a block whose x0 is the bound; `a` of the canary's `n` requests were over it. */
export function withinSloStep({ nats, sloNats }: PromotionTest, { a, n }: Pick<JudgedBlock, 'a' | 'n'>): PromotionTest {
  const before = sloNats ?? SLO_SHARES.map(() => 0)
  const next = SLO_SHARES.map((share, j) => {
    const gained = a * Math.log(share / SLO_REFUTED) + (n - a) * Math.log((1 - share) / (1 - SLO_REFUTED))
    return bounded(before[j]! + gained)
  })
  return { nats, sloNats: next }
}

export function promotionLevel({ nats, sloNats }: PromotionTest): number {
  return sloNats === null ? meanOf(nats) : (meanOf(nats) + meanOf(sloNats)) / 2
}

function bounded(nats: number): number {
  return Math.max(-MOST_NATS, Math.min(MOST_NATS, nats))
}

function meanOf(nats: readonly number[]): number {
  let sum = 0
  for (const nat of nats) sum += Math.exp(nat)
  return sum / nats.length
}

export interface PromotionConfig {
  readonly bakeMs: number
  /** Of the canary, since the step began. */
  readonly leastRequests: number
  readonly parityFreshMs: number
  readonly lagFreshMs: number
  readonly lagMostMs: number
}

export interface Standing {
  readonly bakedMs: number
  readonly requests: number
  /** By statement, those that count. */
  readonly levels: Readonly<Record<string, number>>
  /** `none`: no block was compared yet. `gone`: it has too few requests now. */
  readonly control: 'compared' | 'none' | 'gone'
  /** The last settled comparison; null: none yet. */
  readonly parity: { readonly ageMs: number; readonly differences: number } | null
  readonly lag: { readonly ageMs: number; readonly ms: number } | null
}

/** Why the next step is not taken yet; empty: take it. What is not a number holds like what is missing. */
export function promotionHolds(standing: Standing, config: PromotionConfig): string[] {
  const holds: string[] = []
  const { bakedMs, requests, levels, control, parity, lag } = standing
  if (control === 'none') holds.push('nothing was compared with control yet')
  if (control === 'gone') holds.push('control has too few requests to compare with')
  if (!(bakedMs >= config.bakeMs)) holds.push(`baked for ${seconds(bakedMs)} of ${seconds(config.bakeMs)} s`)
  if (!(requests >= config.leastRequests)) holds.push(`${requests} of ${config.leastRequests} requests seen`)
  if (Object.keys(levels).length === 0) holds.push('no statement has evidence yet')
  for (const [statement, level] of Object.entries(levels)) {
    if (!(level >= PROMOTION_LEVEL)) holds.push(`inconclusive: evidence ${significant(level, 3)} of ${PROMOTION_LEVEL} for ${statement}`)
  }
  if (parity === null || !isFresh(parity.ageMs, config.parityFreshMs)) holds.push('parity is not fresh')
  else if (parity.differences !== 0) holds.push(`parity: ${parity.differences} differences`)
  if (lag === null || !isFresh(lag.ageMs, config.lagFreshMs)) holds.push('lag is not fresh')
  else if (!(lag.ms <= config.lagMostMs)) holds.push(`lag: ${lag.ms} of at most ${config.lagMostMs} ms`)
  return holds
}

/** An age below nothing is a clock that jumped. */
function isFresh(ageMs: number, mostMs: number): boolean {
  return ageMs >= 0 && ageMs <= mostMs
}

function seconds(ms: number): number {
  return Math.round(ms / 1_000)
}
