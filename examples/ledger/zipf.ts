// Promises: keys 1..n with Zipf's frequencies (rank r with weight 1 / r^s), shuffled so that the hot keys are not neighbours; or the ranks.

export function zipfPicker(n: number, s: number, random: () => number, { shuffled = true } = {}): () => number {
  const cumulative = new Float64Array(n)
  let total = 0
  for (let rank = 1; rank <= n; rank++) {
    total += 1 / rank ** s
    cumulative[rank - 1] = total
  }
  const keys = Array.from({ length: n }, (_, i) => i + 1)
  for (let i = n - 1; shuffled && i > 0; i--) {
    const j = Math.floor(random() * (i + 1))
    const swapped = keys[i]!
    keys[i] = keys[j]!
    keys[j] = swapped
  }
  return () => {
    const at = random() * total
    let [low, high] = [0, n - 1]
    while (low < high) {
      const middle = (low + high) >> 1
      if (cumulative[middle]! <= at) low = middle + 1
      else high = middle
    }
    return keys[low]!
  }
}
