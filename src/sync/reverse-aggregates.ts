// Promises: each aggregate's entries are settled as protocols.md, "What an entry is", has it, and applied in order, n only after n-1
// (INV-6); many transactions share one PostgreSQL commit. Rows first: what no gateway has said to be finished gets its rows put on the
// target before it is applied (faults.md 53). A poisoned aggregate halts, the others go on (faults.md 59).
import { backoffMs } from '../lib/backoff.ts'
import type { ReverseTransaction } from '../model/control.ts'
import type { OutboxEntry } from '../model/head.ts'
import type { Tenure } from '../model/ids.ts'
import type { AggregateKey } from '../model/key.ts'
import { tenureStanding, verdict } from '../model/verdict.ts'
import { createLagMeter, type LagMeter } from './lag-meter.ts'
import { ABORTED, untilDone } from './retry.ts'
import type { Aggregate, HaltedAggregate, Item, ReverseContext, Settlement } from './reverse-parts.ts'
import { targetStamp } from './stamps.ts'

export class AggregateBook {
  readonly #context: ReverseContext
  readonly #all = new Map<string, Aggregate>()
  readonly #waiting = new Set<Aggregate>()
  readonly #halted = new Set<Aggregate>()
  readonly lag: LagMeter = createLagMeter()
  #ready: Aggregate[] = []
  #pumpScheduled = false
  #applyCalls = 0
  #looks = 0
  #looksQueued: Aggregate[] = []
  #toAsk: Aggregate[] = []
  #asking = false
  itemCount = 0

  constructor(context: ReverseContext) {
    this.#context = context
  }

  of(key: AggregateKey, tenure: Tenure): Aggregate {
    const id = `${tenure}/${key}`
    const known = this.#all.get(id)
    if (known !== undefined) return known
    if (this.#all.size >= this.#context.limits.aggregatesMax) this.#forgetIdle()
    const slotView = this.#context.options.view()
    const aggregate: Aggregate = {
      id,
      key,
      tenure,
      applied: null,
      asked: false,
      passedTo: 0,
      items: new Map(),
      itemCount: 0,
      slot: slotView.slotOf(key),
      slotView,
      applying: 0,
      queued: false,
      looking: false,
      halted: false,
      haltedVersion: 0,
      tries: 0,
      notBeforeMs: 0,
      waitingSinceMs: null,
      alarmed: false,
    }
    this.#all.set(id, aggregate)
    return aggregate
  }

  #forgetIdle(): void {
    let left = Math.ceil(this.#all.size / 10)
    for (const [id, aggregate] of this.#all) {
      if (left <= 0) return
      if (aggregate.itemCount > 0 || aggregate.halted || aggregate.asked || aggregate.looking) continue
      this.#all.delete(id)
      left--
    }
  }

  add(item: Item): void {
    const { aggregate } = item
    const { version } = item.entry
    const list = aggregate.items.get(version)
    if (list === undefined) aggregate.items.set(version, [item])
    else list.push(item)
    aggregate.itemCount++
    this.itemCount++
    if (version <= aggregate.passedTo) aggregate.passedTo = 0
    this.#context.itemAdded(item)
  }

  settle(item: Item, how: Settlement): void {
    const { aggregate, track } = item
    const list = aggregate.items.get(item.entry.version)
    const at = list?.indexOf(item) ?? -1
    if (list === undefined || at < 0) return
    list.splice(at, 1)
    if (list.length === 0) aggregate.items.delete(item.entry.version)
    aggregate.itemCount--
    this.itemCount--
    track.settle(item.sequence)
    const { counts } = this.#context
    if (how === 'applied') {
      counts.applied++
      this.lag.record(this.#context.now() - item.seenAtMs)
    } else if (how === 'double') counts.doubles++
    else if (how === 'old') counts.old++
    else counts.voids++
    if (aggregate.itemCount === 0) this.#waits(aggregate, false)
    this.#context.itemSettled(item, how)
  }

  #waits(aggregate: Aggregate, waits: boolean): void {
    if (waits) {
      aggregate.waitingSinceMs ??= this.#context.now()
      this.#waiting.add(aggregate)
    } else {
      aggregate.waitingSinceMs = null
      aggregate.alarmed = false
      this.#waiting.delete(aggregate)
    }
  }

  /** Looks at one aggregate and does what can be done next. Cheap, and safe to call whenever anything has changed. */
  evaluate(aggregate: Aggregate): void {
    const context = this.#context
    if (aggregate.itemCount === 0 || context.signal.aborted) return
    const slot = context.slotOf(aggregate)
    const tenure = tenureStanding(aggregate.tenure, context.options.view().ownership(slot))
    if (tenure === 'ahead') {
      this.#waits(aggregate, true)
      context.options.refreshView?.()
      return
    }
    if (tenure === 'old') {
      this.#halted.delete(aggregate)
      for (const list of [...aggregate.items.values()]) for (const item of [...list]) if (!item.applying) this.settle(item, 'old')
      return
    }
    if (aggregate.applied === null) {
      this.#ask(aggregate)
      return
    }
    if (aggregate.applying > 0 || aggregate.queued) return
    this.#passDoubles(aggregate)
    if (aggregate.itemCount === 0 || aggregate.halted) return
    const next = aggregate.applied + 1
    if (readyItem(aggregate, next) !== undefined && context.now() >= aggregate.notBeforeMs) {
      this.#waits(aggregate, false)
      aggregate.queued = true
      this.#ready.push(aggregate)
      this.#schedulePump()
      return
    }
    this.#waits(aggregate, true)
    if (!aggregate.looking && this.#lookDue(aggregate, next)) this.#look(aggregate)
  }

  /** Versions that are applied: whoever wrote them, they are in PostgreSQL, or their compare-and-set had lost. */
  #passDoubles(aggregate: Aggregate): void {
    if (aggregate.passedTo === aggregate.applied) return
    aggregate.passedTo = aggregate.applied!
    for (const [version, list] of aggregate.items) {
      if (version > aggregate.applied!) continue
      for (const item of [...list]) if (!item.applying) this.settle(item, 'double')
    }
  }

  #lookDue(aggregate: Aggregate, next: number): boolean {
    const context = this.#context
    const now = context.now()
    if (now < aggregate.notBeforeMs) return false
    const list = aggregate.items.get(next)
    if (list === undefined) return false
    if (context.urgent(aggregate)) return true
    return list.some((item) => {
      const { lease } = item.track.id
      return context.leaseOver(lease) || !context.feedAlive(lease) || now - item.seenAtMs >= context.limits.feedGraceMs
    })
  }

  #look(aggregate: Aggregate): void {
    aggregate.looking = true
    if (this.#looks >= this.#context.limits.headReadsMax) {
      this.#looksQueued.push(aggregate)
      return
    }
    this.#looks++
    void this.#lookNow(aggregate).finally(() => {
      this.#looks--
      aggregate.looking = false
      this.evaluate(aggregate)
      const queued = this.#looksQueued.shift()
      if (queued !== undefined) this.#look(queued)
    })
  }

  async #lookNow(aggregate: Aggregate): Promise<void> {
    const { options, counts, signal } = this.#context
    // What is over is noted before the head is read: a head read earlier proves nothing about a lease that ended since.
    const over = new Set<Item>()
    for (const list of aggregate.items.values()) for (const item of list) if (this.#context.leaseOver(item.track.id.lease)) over.add(item)
    let progressed = false
    try {
      counts.headReads++
      const head = await options.target.readHead(aggregate.key)
      for (let version = (aggregate.applied ?? 0) + 1; !signal.aborted && aggregate.items.has(version); version++) {
        const list = aggregate.items.get(version)!
        const isNext = version === (aggregate.applied ?? 0) + 1
        let committed = list.find((item) => item.ready)
        for (const item of [...list]) {
          if (item.ready || item.applying) continue
          const namedByNext = aggregate.items.get(version + 1)?.some((one) => one.entry.prev === item.entry.txnId) ?? false
          const says = verdict(item.entry, { head, leaseOver: over.has(item) && isNext, namedByNext })
          if (says === 'void') {
            this.settle(item, 'void')
            progressed = true
          } else if (says === 'committed' && committed === undefined) {
            await this.#putRows(item)
            item.ready = true
            committed = item
            progressed = true
          }
        }
        if (committed === undefined) break
      }
    } catch (error) {
      this.#context.counted(error)
    }
    if (progressed) aggregate.tries = 0
    else this.#backOff(aggregate)
  }

  #backOff(aggregate: Aggregate): void {
    const { options, limits, now } = this.#context
    aggregate.notBeforeMs = now() + limits.backoff.firstMs + backoffMs(aggregate.tries++, limits.backoff, options.random)
  }

  /** Same stamps as the gateway's own puts, so harmless however late those arrive. */
  async #putRows(item: Item): Promise<void> {
    const { entry } = item
    const { options, counts } = this.#context
    const ownership = options.view().ownership(this.#context.slotOf(item.aggregate))
    // The tenure is over: nothing is put, and the next look discards the entry as old.
    if (ownership === undefined || ownership.tenure !== entry.tenure) throw new Error(`tenure ${entry.tenure} of ${entry.key} is over`)
    if (entry.changes.length === 0) return
    await options.target.putRows(rowsOf(entry, ownership.base))
    counts.rowsPut += entry.changes.length
  }

  #ask(aggregate: Aggregate): void {
    if (aggregate.asked) return
    aggregate.asked = true
    this.#toAsk.push(aggregate)
    if (!this.#asking) {
      this.#asking = true
      queueMicrotask(() => void this.#askAll())
    }
  }

  async #askAll(): Promise<void> {
    const { options, limits, signal } = this.#context
    try {
      while (this.#toAsk.length > 0 && !signal.aborted) {
        const asked = this.#toAsk.splice(0, limits.appliedKeysMax)
        const keys = asked.map(({ key, tenure }) => ({ key, tenure }))
        const answer = await untilDone(() => options.applier.applied(keys), this.#context.retry, signal)
        if (answer === ABORTED) return
        const versions = new Map(answer.map((one) => [`${one.tenure}/${one.key}`, one.version]))
        for (const aggregate of asked) {
          aggregate.asked = false
          aggregate.applied = versions.get(aggregate.id) ?? 0
          this.evaluate(aggregate)
        }
      }
    } catch (error) {
      this.#context.fail(error)
    } finally {
      this.#asking = false
    }
  }

  #schedulePump(): void {
    if (this.#pumpScheduled) return
    this.#pumpScheduled = true
    // One turn later: entries that arrived together share a commit.
    queueMicrotask(() => {
      this.#pumpScheduled = false
      this.#pump()
    })
  }

  #pump(): void {
    const { limits, signal } = this.#context
    while (!signal.aborted && this.#applyCalls < limits.applyConcurrency && this.#ready.length > 0) {
      const items: Item[] = []
      let taken = 0
      while (taken < this.#ready.length && items.length < limits.applyBatchMax) this.#takeRun(this.#ready[taken++]!, items)
      this.#ready = this.#ready.slice(taken)
      if (items.length === 0) continue
      this.#applyCalls++
      void this.#apply(items).finally(() => {
        this.#applyCalls--
        this.#pump()
      })
    }
  }

  #takeRun(aggregate: Aggregate, items: Item[]): void {
    aggregate.queued = false
    if (aggregate.halted || aggregate.applied === null) return
    const { applyRunMax } = this.#context.limits
    for (let i = 0; i < applyRunMax; i++) {
      const item = readyItem(aggregate, aggregate.applied + 1 + i)
      if (item === undefined) return
      item.applying = true
      aggregate.applying++
      items.push(item)
    }
  }

  async #apply(items: readonly Item[]): Promise<void> {
    const { options, signal } = this.#context
    const batch: ReverseTransaction[] = items.map((item) => {
      const { key, tenure, version, txnId, changes } = item.entry
      return { key, slot: this.#context.slotOf(item.aggregate), tenure, version, txnId, changes }
    })
    try {
      // A commit whose reply was lost is sent again: what took effect comes back as a double.
      const outcomes = await untilDone(() => options.applier.apply(batch), this.#context.retry, signal)
      if (outcomes === ABORTED) return
      const touched = new Set<Aggregate>()
      items.forEach((item, i) => {
        item.applying = false
        item.aggregate.applying--
        touched.add(item.aggregate)
        this.#outcome(item, outcomes[i] ?? 'wait')
      })
      for (const aggregate of touched) this.evaluate(aggregate)
    } catch (error) {
      this.#context.fail(error)
    }
  }

  #outcome(item: Item, outcome: 'applied' | 'double' | 'old' | 'wait' | 'poison'): void {
    const { aggregate } = item
    const { version } = item.entry
    if (outcome === 'applied' || outcome === 'double') {
      if (aggregate.applied !== null && version > aggregate.applied) aggregate.applied = version
      aggregate.tries = 0
      this.settle(item, outcome)
    } else if (outcome === 'old') this.settle(item, 'old')
    else if (outcome === 'poison') {
      if (!aggregate.halted) this.halt(aggregate, version)
    } else if (!aggregate.halted) {
      // PostgreSQL has another version than we thought: ask again, later.
      aggregate.applied = null
      this.#backOff(aggregate)
    }
  }

  halt(aggregate: Aggregate, version: number): void {
    aggregate.halted = true
    aggregate.haltedVersion = version
    this.#halted.add(aggregate)
    this.#waits(aggregate, false)
    this.#context.halted(aggregate)
  }

  /** Somebody has dealt with the poison of this key. */
  release(key: AggregateKey): boolean {
    let found = false
    for (const aggregate of [...this.#halted]) {
      if (aggregate.key !== key) continue
      this.#halted.delete(aggregate)
      aggregate.halted = false
      aggregate.applied = null
      found = true
      this.evaluate(aggregate)
    }
    return found
  }

  /** Everything that waits for time to pass, and alarms for what has waited too long. */
  tick(): void {
    const { limits, now } = this.#context
    for (const aggregate of [...this.#waiting]) {
      this.evaluate(aggregate)
      const since = aggregate.waitingSinceMs
      if (since !== null && !aggregate.alarmed && now() - since > limits.waitAlarmMs) {
        aggregate.alarmed = true
        const because = this.whyWaits(aggregate)
        this.#context.alarm({ kind: 'waits', key: aggregate.key, slot: aggregate.slot, tenure: aggregate.tenure, because })
      }
    }
  }

  evaluateAll(): void {
    for (const aggregate of [...this.#all.values()]) if (aggregate.itemCount > 0) this.evaluate(aggregate)
  }

  whyWaits(aggregate: Aggregate): string {
    if (aggregate.applied === null) return 'its applied version is being read from PostgreSQL'
    const next = aggregate.applied + 1
    const versions = [...aggregate.items.keys()].sort((a, b) => a - b)
    if (!aggregate.items.has(next)) return `version ${next} has not come, version ${versions[0] ?? '?'} has`
    if (tenureStanding(aggregate.tenure, this.#context.options.view().ownership(aggregate.slot)) === 'ahead')
      return 'its tenure is not known yet'
    if (readyItem(aggregate, next) !== undefined) return `version ${next} is being applied`
    return `whether version ${next} was committed is not known yet`
  }

  /** Why what is at hand cannot all be applied without the target; null: it can, or is being applied. */
  openBecause(aggregate: Aggregate): string | null {
    const { applied } = aggregate
    if (applied === null) return null
    const standing = tenureStanding(aggregate.tenure, this.#context.options.view().ownership(aggregate.slot))
    if (standing === 'old') return null
    if (standing === 'ahead') return 'its tenure is not known yet'
    const above = [...aggregate.items.keys()].filter((version) => version > applied).sort((a, b) => a - b)
    for (const [i, version] of above.entries()) {
      if (version !== applied + 1 + i) return `version ${applied + 1 + i} has not come, version ${version} has`
      if (readyItem(aggregate, version) === undefined) return `whether version ${version} was committed is not known yet`
    }
    return null
  }

  get busy(): boolean {
    return this.#applyCalls > 0 || this.#ready.length > 0 || this.#looks > 0 || this.#asking
  }

  get waitingCount(): number {
    return this.#waiting.size
  }

  haltedList(): HaltedAggregate[] {
    return [...this.#halted].map((a) => ({ key: a.key, slot: this.#context.slotOf(a), tenure: a.tenure, version: a.haltedVersion }))
  }
}

function readyItem(aggregate: Aggregate, version: number): Item | undefined {
  return aggregate.items.get(version)?.find((item) => item.ready)
}

function rowsOf(entry: OutboxEntry, base: bigint) {
  const stamp = targetStamp(base, entry.version)
  const mark = entry.changes.length > 1
  return entry.changes.map(({ table, clustering, values }) => ({ table, key: entry.key, clustering, values, stamp, mark }))
}
