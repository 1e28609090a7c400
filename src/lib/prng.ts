// Promises: randomness that is passed in, and the same sequence for the same seed on every machine.

export interface Random {
  /** Uniform in [0, 1). */
  next(): number
  /** Uniform integer in [0, below). */
  int(below: number): number
}

/** sfc32 (Chris Doty-Humphrey, PractRand), seeded by splitmix32 so that neighbouring seeds do not start alike. */
export function seededRandom(seed: number): Random {
  let s = seed | 0
  const split = () => {
    s = (s + 0x9e3779b9) | 0
    let t = s ^ (s >>> 16)
    t = Math.imul(t, 0x21f0aaad)
    t = t ^ (t >>> 15)
    t = Math.imul(t, 0x735a2d97)
    return (t ^ (t >>> 15)) | 0
  }
  let [a, b, c, d] = [split(), split(), split(), 1]
  const next32 = () => {
    const t = (((a + b) | 0) + d) | 0
    d = (d + 1) | 0
    a = b ^ (b >>> 9)
    b = (c + (c << 3)) | 0
    c = (c << 21) | (c >>> 11)
    c = (c + t) | 0
    return t >>> 0
  }
  for (let i = 0; i < 12; i++) next32()
  return { next: () => next32() / 4294967296, int: (below) => Math.floor((next32() / 4294967296) * below) }
}

export const systemRandom: Random = { next: () => Math.random(), int: (below) => Math.floor(Math.random() * below) }
