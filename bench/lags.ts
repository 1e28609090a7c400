// Promises: what a round of a lag bench says.

export interface Lags {
  readonly lagsMs: readonly number[]
  /** What the load really reached. */
  readonly perSecond: number
}
