// Promises: the distribution of any number of non-negative values in bounded memory: one count for each 64th of an octave, so that a
// quantile is at most 0.8 % off. Sparse: what few values were recorded takes few entries.

/** Of a float's bits: its exponent and the upper six bits of its mantissa. */
const BITS_DROPPED = 14
const float = new Float64Array(1)
const halves = new Uint32Array(float.buffer)
/** Which half of a float has the exponent depends on the machine. */
const UPPER = new Uint8Array(new Uint32Array([1]).buffer)[0] === 1 ? 1 : 0

export class Histogram {
  readonly #counts = new Map<number, number>()
  #count = 0
  #max = 0

  record(value: number): void {
    float[0] = value
    const bucket = halves[UPPER]! >>> BITS_DROPPED
    this.#counts.set(bucket, (this.#counts.get(bucket) ?? 0) + 1)
    this.#count++
    if (value > this.#max) this.#max = value
  }

  get count(): number {
    return this.#count
  }

  get max(): number {
    return this.#max
  }

  /** 0 of no values. */
  quantile(q: number): number {
    let left = Math.ceil(q * this.#count)
    for (const [bucket, count] of [...this.#counts].sort(([a], [b]) => a - b)) {
      left -= count
      if (left <= 0) return Math.min(middleOf(bucket), this.#max)
    }
    return this.#max
  }
}

function middleOf(bucket: number): number {
  halves[1 - UPPER] = 0
  halves[UPPER] = bucket << BITS_DROPPED
  const from = float[0]!
  halves[UPPER] = (bucket + 1) << BITS_DROPPED
  return (from + float[0]!) / 2
}
