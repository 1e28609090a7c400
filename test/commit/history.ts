// Promises: what happened, as clients saw it and as PostgreSQL has it in the end, and whether the one follows from the other: each
// acknowledged transaction took effect once, a refused one never, an unknown one at most once; no read showed what was lost later,
// half a transaction, or less than was acknowledged or read before it began.

export interface Txn {
  readonly id: number
  readonly key: string
  readonly pots: readonly string[]
  readonly beganAt: number
  state: 'acked' | 'refused' | 'unknown'
  ackedAt: number | null
  effects: number
}

export interface Read {
  readonly id: string
  readonly by: number
  readonly began: number
  readonly ended: number
}

type ShownRow = readonly (string | null)[]

export class History {
  readonly bad: string[] = []
  readonly #txns = new Map<number, Txn>()
  readonly #effects = new Map<string, number[]>()
  readonly #reads: Read[] = []
  readonly #pairs: (readonly [Read, Read])[] = []
  readonly #snapshots: (readonly Read[])[] = []
  readonly #sum: number
  #ids = 0

  /** `sum`: of all rows of a key, at any time. */
  constructor(keys: readonly string[], pots: readonly string[], sum: number) {
    for (const key of keys) for (const pot of pots) this.#effects.set(key + pot, [0])
    this.#sum = sum
  }

  begin(key: string, pots: readonly string[], now: number): Txn {
    const txn: Txn = { id: ++this.#ids, key, pots, beganAt: now, state: 'unknown', ackedAt: null, effects: 0 }
    this.#txns.set(txn.id, txn)
    return txn
  }

  end(txn: Txn, state: Txn['state'], now: number): void {
    txn.state = state
    if (state === 'acked') txn.ackedAt = now
  }

  /** Of a transaction that changed several keys one counts. */
  effect(key: string, changes: readonly { readonly pot: string; readonly by: number }[], { counts } = { counts: true }): void {
    if (counts) this.#txns.get(changes[0]!.by)!.effects++
    for (const { pot, by } of changes) this.#effects.get(key + pot)!.push(by)
  }

  read(key: string, row: ShownRow, began: number, ended: number): Read {
    const read = { id: key + row[1], by: Number(row[3]), began, ended }
    this.#reads.push(read)
    return read
  }

  pair(first: Read, second: Read): void {
    this.#pairs.push([first, second])
  }

  snapshot(key: string, rows: readonly ShownRow[], began: number, ended: number): void {
    this.#snapshots.push(rows.map((row) => this.read(key, row, began, ended)))
    const sum = rows.reduce((total, row) => total + Number(row[2]), 0)
    if (sum !== this.#sum) this.bad.push(`a read of ${key} sums to ${sum}: ${JSON.stringify(rows)}`)
  }

  totals(): { acked: number; unknown: number; refused: number; reads: number } {
    const totals = { acked: 0, unknown: 0, refused: 0, reads: this.#reads.length }
    for (const txn of this.#txns.values()) totals[txn.state]++
    return totals
  }

  check(): void {
    for (const { id, state, effects } of this.#txns.values()) {
      if (effects > 1 || (state === 'acked' && effects !== 1)) this.bad.push(`${state} transaction ${id} took effect ${effects} times`)
      if (state === 'refused' && effects > 0) this.bad.push(`refused transaction ${id} took effect`)
    }
    const ranks = new Map<string, Map<number, number>>()
    for (const [id, list] of this.#effects) ranks.set(id, new Map(list.map((by, rank) => [by, rank])))
    this.#checkFresh(ranks)
    this.#checkWhole(ranks)
  }

  #checkFresh(ranks: Map<string, Map<number, number>>): void {
    const floors = new Map<string, [number, number][]>()
    for (const id of ranks.keys()) floors.set(id, [])
    for (const txn of this.#txns.values()) {
      if (txn.ackedAt === null) continue
      for (const pot of txn.pots) floors.get(txn.key + pot)!.push([txn.ackedAt, ranks.get(txn.key + pot)!.get(txn.id) ?? -1])
    }
    for (const read of this.#reads) {
      const rank = ranks.get(read.id)!.get(read.by)
      if (rank === undefined) this.bad.push(`a read of ${read.id} showed ${read.by}, which is lost`)
      else floors.get(read.id)!.push([read.ended, rank])
    }
    for (const read of this.#reads) {
      const rank = ranks.get(read.id)!.get(read.by)
      if (rank === undefined) continue
      let need = -1
      for (const [at, floor] of floors.get(read.id)!) if (at < read.began && floor > need) need = floor
      if (rank < need)
        this.bad.push(
          `a stale read of ${read.id} at ${read.began.toFixed(0)}-${read.ended.toFixed(0)}: ${read.by}, though later ones were acknowledged or read before`,
        )
    }
  }

  #checkWhole(ranks: Map<string, Map<number, number>>): void {
    const ofSeveral = [...this.#txns.values()].filter(({ pots, effects }) => pots.length > 1 && effects > 0)
    const half = (p: Read, q: Read): number | null => {
      const [ranksP, ranksQ] = [ranks.get(p.id)!, ranks.get(q.id)!]
      const [shownP, shownQ] = [ranksP.get(p.by) ?? 0, ranksQ.get(q.by) ?? 0]
      for (const { id } of ofSeveral) {
        const inP = ranksP.get(id)
        if (inP === undefined || shownP < inP) continue
        const inQ = ranksQ.get(id)
        if (inQ !== undefined && shownQ < inQ) return id
      }
      return null
    }
    for (const [p, q] of this.#pairs) {
      const txn = half(p, q)
      if (txn !== null) this.bad.push(`half of ${txn}: ${p.id} showed ${p.by}, then ${q.id} ${q.by}`)
    }
    for (const snapshot of this.#snapshots) {
      for (const p of snapshot) {
        for (const q of snapshot) {
          const txn = p === q ? null : half(p, q)
          if (txn !== null) this.bad.push(`a read of several showed half of ${txn}`)
        }
      }
    }
  }
}
