// Promises: detector 3: errors that grew on the canary and not on control. Lindon and Malek (Anytime-valid inference for multinomial count
// data, 2022): where both arms fail alike, each bad event is a coin of known bias, the canary's with chance n / (n + m), however the rate of
// errors itself moves:
//
//   theta(d) = d n / (d n + m),   LR_d = prod over bad events of theta(d) / theta(1) or (1 - theta(d)) / (1 - theta(1)),
//   d = {2.5, 4, 8, 16, 64},      R_d = (R_d + 1) LR_d,   the clip of e-detector.ts
//
// Events are its time: a span without one is no step, or R would grow by its 1 for nothing. Pure; the state is plain JSON.
import type { Arms } from './arm-counts.ts'
import { advanced, type EDetector, freshDetector, rested } from './e-detector.ts'

const RATIOS = [2.5, 4, 8, 16, 64]

export const FRESH_ERRORS: EDetector = freshDetector(RATIOS.length)

export function errorStep(detector: EDetector, { canary, control }: Arms, spanMs: number): EDetector {
  const [e, n, f, m] = [canary.errors, canary.requests, control.errors, control.requests]
  // One arm alone is no coin: the absolute limit (limits.ts) judges it.
  if (e + f === 0 || n === 0 || m === 0) return rested(detector, spanMs)
  return advanced(
    detector,
    RATIOS.map((d) => coinLogRatio(d, 1, { e, n, f, m })),
    spanMs,
  )
}

/** ln of the likelihood of e events on the canary and f on control under a ratio of rates d, over that under d0. */
export function coinLogRatio(
  d: number,
  d0: number,
  { e, n, f, m }: { readonly e: number; readonly n: number; readonly f: number; readonly m: number },
): number {
  return e * Math.log(d / d0) + (e + f) * Math.log((d0 * n + m) / (d * n + m))
}
