// Promises: evidence that adds up to an alarm, and rarely without a cause: the e-detector of Shin, Ramdas and Rinaldo (E-detectors: a
// nonparametric framework for sequential change detection, 2024), in Shiryaev and Roberts' form over a mixture of alternatives j:
//
//   R_j = (R_j + 1) * LR_j,   level = mean_j R_j,   alarm when level >= h
//
// Where each LR_j has at most 1 for its mean while nothing is wrong, whatever was seen before, the mean time to a false alarm is at least h
// steps, and the delay does not grow with the time before the change. Two caps only ever lower the evidence, so both leave that true: what a
// step may gain (a stall of seconds is no regression) and R itself, so that it stays a number. Pure; the state is plain JSON.

export interface EDetector {
  /** One of each alternative. */
  readonly r: readonly number[]
  /** What the last steps gained, newest last, as far as the clip looks back. */
  readonly gains: readonly Gain[]
}

interface Gain {
  readonly spanMs: number
  readonly nats: readonly number[]
}

export interface Clip {
  readonly nats: number
  readonly windowMs: number
}

/** Positive evidence counts at most 5 nats in any ten seconds. */
export const CLIP: Clip = { nats: 5, windowMs: 10_000 }

/** Far above every threshold, far below where doubles end. */
const MOST_R = 1e30

export function freshDetector(alternatives: number): EDetector {
  return { r: new Array<number>(alternatives).fill(0), gains: [] }
}

/** One step of `spanMs`. A log likelihood ratio that is no number counts as no evidence. */
export function advanced(detector: EDetector, logRatios: readonly number[], spanMs: number, clip: Clip = CLIP): EDetector {
  // A step longer than the window has a window of its own length, and the same share of nats a second.
  const windowMs = Math.max(clip.windowMs, spanMs)
  const gains = kept(detector.gains, windowMs - spanMs)
  const budget = clip.nats * (windowMs / clip.windowMs)
  const nats = logRatios.map((ratio, j) => {
    let left = budget
    for (const gain of gains) left -= gain.nats[j]!
    return Number.isNaN(ratio) ? 0 : Math.min(ratio, Math.max(0, left))
  })
  return {
    r: detector.r.map((r, j) => Math.min(MOST_R, (r + 1) * Math.exp(nats[j]!))),
    gains: [...gains, { spanMs, nats: nats.map((nat) => Math.max(0, nat)) }],
  }
}

/** Time in which nothing was seen that says anything: no step, since R would grow by its 1 for nothing. */
export function rested(detector: EDetector, spanMs: number, clip: Clip = CLIP): EDetector {
  if (detector.gains.length === 0) return detector
  return { r: detector.r, gains: [...kept(detector.gains, clip.windowMs - spanMs), { spanMs, nats: detector.r.map(() => 0) }] }
}

export function levelOf({ r }: EDetector): number {
  let sum = 0
  for (const one of r) sum += one
  return sum / r.length
}

/** The newest gains that reach into the last `ms`. */
function kept(gains: readonly Gain[], ms: number): readonly Gain[] {
  let left = ms
  let first = gains.length
  while (first > 0 && left > 0) left -= gains[--first]!.spanMs
  return gains.slice(first)
}
