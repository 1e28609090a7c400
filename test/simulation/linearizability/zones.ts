// Promises: whether a history of one register, each of whose writes has a value of its own, is linearizable, in O(n log n).
// P. Gibbons and E. Korach, Testing Shared Memories, SIAM J. Comput. 26(4), 1997: the operations of one value (its write and the reads
// that returned it) span a zone from the first end to the last begin among them. Where the first end comes first, the zone is a time in
// which the register held this value and no other (forward); else the value may have lived at any one instant of it (backward). The
// history is linearizable if no two forward zones overlap, no backward zone lies within a forward one, and no read ended before the
// write of its value began.

export interface Interval {
  readonly began: number
  /** Infinity: whoever did it never heard of it, so it may take effect at any later time, or never. */
  readonly ended: number
}

export interface ValueInterval extends Interval {
  readonly value: number
}

interface Zone {
  readonly value: number
  readonly firstEnd: number
  readonly lastBegin: number
}

/** A sentence that says why it is not linearizable, or null. `initial` was there before anything began. */
export function checkRegister(initial: number, writes: readonly ValueInterval[], reads: readonly ValueInterval[]): string | null {
  const clusters = new Map<number, { write: Interval; firstEnd: number; lastBegin: number }>()
  const before = Number.NEGATIVE_INFINITY
  clusters.set(initial, { write: { began: before, ended: before }, firstEnd: before, lastBegin: before })
  for (const { value, began, ended } of writes) {
    if (clusters.has(value)) throw new Error(`two writes have the value ${value}`)
    clusters.set(value, { write: { began, ended }, firstEnd: ended, lastBegin: began })
  }
  for (const { value, began, ended } of reads) {
    const cluster = clusters.get(value)
    if (cluster === undefined) return `a read of ${span(began, ended)} returned ${value}, which nobody wrote`
    if (ended < cluster.write.began) return `a read of ${span(began, ended)} returned ${value}, whose write began later`
    cluster.firstEnd = Math.min(cluster.firstEnd, ended)
    cluster.lastBegin = Math.max(cluster.lastBegin, began)
  }
  const forward: Zone[] = []
  const backward: Zone[] = []
  for (const [value, { firstEnd, lastBegin }] of clusters) {
    // An unknown write that nobody has read spans all time to come: it lies in no zone, so it may be left out.
    const zones = firstEnd < lastBegin ? forward : backward
    zones.push({ value, firstEnd, lastBegin })
  }
  return overlapping(forward) ?? within(forward, backward)
}

function overlapping(forward: Zone[]): string | null {
  forward.sort((a, b) => a.firstEnd - b.firstEnd)
  for (let i = 1; i < forward.length; i++) {
    const [one, next] = [forward[i - 1]!, forward[i]!]
    if (next.firstEnd < one.lastBegin) return `${one.value} was there all ${zone(one)}, and ${next.value} all ${zone(next)}`
  }
  return null
}

/** Forward zones are disjoint here, and in order. */
function within(forward: readonly Zone[], backward: readonly Zone[]): string | null {
  for (const inner of backward) {
    let low = 0
    let high = forward.length
    while (low < high) {
      const middle = (low + high) >> 1
      if (forward[middle]!.firstEnd < inner.lastBegin) low = middle + 1
      else high = middle
    }
    const outer = forward[low - 1]
    if (outer !== undefined && inner.firstEnd < outer.lastBegin)
      return `${outer.value} was there all ${zone(outer)}, in which ${inner.value} came and went (${span(inner.lastBegin, inner.firstEnd)})`
  }
  return null
}

function zone({ firstEnd, lastBegin }: Zone): string {
  return span(firstEnd, lastBegin)
}

function span(from: number, to: number): string {
  return `${from.toFixed(1)}-${to.toFixed(1)}`
}
