import type { BenchOptions, Measured } from './measure.ts'
export async function benchSync(_options: BenchOptions): Promise<Measured> {
  return { figures: {}, peers: {} }
}
