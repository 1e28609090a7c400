// Promises: no more than so many rows a second, however the asking is spread; a burst is at most a tenth of a second's rows.
import type { Clock } from '../lib/clock.ts'

export interface RowPacer {
  take(rows: number, signal: AbortSignal): Promise<void>
}

const BURST_MS = 100

export function createRowPacer(options: { readonly rowsPerSecondMax: number | null; readonly clock: Clock }): RowPacer {
  const { rowsPerSecondMax, clock } = options
  if (rowsPerSecondMax === null) return { take: async () => undefined }
  let freeAtMs = clock.monotonicMs()
  return {
    async take(rows, signal) {
      const now = clock.monotonicMs()
      const startMs = Math.max(freeAtMs, now - BURST_MS)
      freeAtMs = startMs + (rows * 1000) / rowsPerSecondMax
      if (startMs > now) await clock.sleep(startMs - now, signal)
    },
  }
}
