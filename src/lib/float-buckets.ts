// Promises: one way to put latencies into buckets, for whoever counts them and whoever reads the counts: of a float's bits, the exponent and the
// upper six of its mantissa, so that a record is a store, a load and a shift, and a bucket is the same number in any process.

/** Of the upper half of a float: bits below the six of the mantissa that count. */
const BITS_DROPPED = 14
export const SUB_BUCKETS = 64
/** The range that is told apart: 2^-8 ms, four microseconds, to 2^20 ms, 17 minutes. */
export const LOWEST_EXPONENT = -8
export const OCTAVES = 28

const float = new Float64Array(1)
const halves = new Uint32Array(float.buffer)
/** Which half of a float has the exponent depends on the machine. */
const UPPER = new Uint8Array(new Uint32Array([1]).buffer)[0] === 1 ? 1 : 0

/** Of a value that is not negative; NaN has none and must not come here. */
export function bucketBits(value: number): number {
  float[0] = value
  return halves[UPPER]! >>> BITS_DROPPED
}

/** Of the least and the greatest value that are told apart. */
export const FIRST_BUCKET = bucketBits(2 ** LOWEST_EXPONENT)
export const LAST_BUCKET = bucketBits(2 ** (LOWEST_EXPONENT + OCTAVES))

/** The least value that the bucket holds. */
export function bucketFloor(bits: number): number {
  halves[1 - UPPER] = 0
  halves[UPPER] = bits << BITS_DROPPED
  return float[0]!
}
