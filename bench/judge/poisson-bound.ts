// Promises: how large the mean of a Poisson count may be after `seen` of it: the exact one-sided upper bound.

/** The mean at which `seen` or fewer have a chance of 1 - `confidence`, by bisection. */
export function poissonUpper(seen: number, confidence: number): number {
  let [low, high] = [0, 10 + 3 * seen]
  for (let i = 0; i < 100; i++) {
    const middle = (low + high) / 2
    if (atMost(seen, middle) > 1 - confidence) low = middle
    else high = middle
  }
  return high
}

function atMost(seen: number, mean: number): number {
  let [chance, sum] = [Math.exp(-mean), 0]
  for (let k = 0; k <= seen; k++) {
    sum += chance
    chance *= mean / (k + 1)
  }
  return sum
}
