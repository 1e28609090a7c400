// Promises: quantiles of the last measured lags, over a window of fixed size.

export interface LagMeter {
  record(ms: number): void
  /** Undefined: nothing measured yet (INV-10: unknown is not healthy). */
  quantile(q: number): number | undefined
}

const WINDOW = 4096

export function createLagMeter(): LagMeter {
  const samples = new Float64Array(WINDOW)
  let count = 0
  return {
    record(ms) {
      samples[count % WINDOW] = ms
      count++
    },
    quantile(q) {
      const size = Math.min(count, WINDOW)
      if (size === 0) return undefined
      const sorted = samples.slice(0, size).sort()
      return sorted[Math.min(size - 1, Math.floor(q * size))]
    },
  }
}
