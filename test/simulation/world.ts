// Promises: what all parts of a simulated move share: the kernel, both stores, the history that clients tell, and what the scenario is.
import { setMaxListeners } from 'node:events'
import { bucketOf, type OutboxEntry, type OutboxId } from '../../src/model/head.ts'
import { hashSlotOf, SLOTS_PER_GROUP } from '../../src/model/key.ts'
import { POTS } from '../commit/fake-plans.ts'
import { FakeStore, type Operation } from '../commit/fake-store.ts'
import { History } from '../commit/history.ts'
import type { Acts } from './acts.ts'
import { AggregateLog } from './aggregate-log.ts'
import { Coverage } from './coverage.ts'
import { type Host, Kernel } from './kernel.ts'
import { Postgres, START_AMOUNT } from './postgres.ts'
import { Standby } from './standby.ts'

/** Of an outbox: a scenario fills many. */
export const ENTRIES_PER_BUCKET = 4
export const POT_NAMES = ['x', 'y', 'z']
/** Comes and goes, and holds no money. */
export const NOTE = 'n'
export const ROW_NAMES = [...POT_NAMES, NOTE]
export const LEASE = { lengthMs: 500, renewMs: 120, marginRatio: 0.1 }
/** Two keys in each of two slots: a slot is more than one key, and a flip may take one slot and leave the other. */
export const KEYS = twoSlots()
export const SLOTS = [...new Set(KEYS.map(hashSlotOf))]
/** Theirs, and one that stays empty: to ask all 64 was nine tenths of what the target was asked. */
export const SLOT_GROUPS = [...new Set([...SLOTS, 0].map((slot) => Math.floor(slot / SLOTS_PER_GROUP)))]

const START_ROWS = KEYS.flatMap((key) => POT_NAMES.map((pot) => [key, pot, String(START_AMOUNT), '0'] as const))

function twoSlots(): string[] {
  const first = 'A'
  const others = Array.from({ length: 40_000 }, (_, i) => `k${i}`)
  const like = (key: string) => others.find((other) => hashSlotOf(other) === hashSlotOf(key))!
  const second = 'B'
  return [first, like(first), second, like(second)]
}

export class World {
  readonly kernel: Kernel
  readonly store: CheckedStore
  readonly postgres: Postgres
  /** Named in the configuration; null: none is. */
  readonly standby: Standby | null
  readonly history = new History(KEYS, ROW_NAMES, START_AMOUNT * POT_NAMES.length)
  readonly log = new AggregateLog(START_ROWS)
  /** Clients begin no transaction any more. */
  over = false
  /** Transactions that clients have begun, and may begin by now. */
  begun = 0
  allowed = 0
  readonly coverage = new Coverage()
  /** Of the target: one that fails until then, as a throttled partition does. */
  failing: { readonly operation: Operation; readonly untilMs: number } | null = null
  /** What this gateway process asks of the target so comes no sooner than then. */
  late: { readonly host: Host; readonly operations: readonly Operation[]; readonly untilMs: number } | null = null
  /** Aborts never: what waits with it ends with its host. */
  readonly never = endless()

  constructor(seed: number, options: { readonly traced: boolean }) {
    this.kernel = new Kernel(seed, options)
    this.postgres = new Postgres(this.kernel, SLOTS)
    this.standby = this.kernel.chance(0.5) ? new Standby(this.kernel, this.postgres) : null
    this.store = new CheckedStore(
      this.kernel,
      (id, bucket) => this.#mustBePast(id, bucket),
      (id) => this.postgres.positions.get(`${id.group}/${id.lease}`) ?? { sequence: 0, final: false },
    )
    this.postgres.slotOf = hashSlotOf
    this.postgres.seed(START_ROWS.map((values) => ({ key: values[0], pot: values[1], values, by: 0 })))
    this.postgres.seed(KEYS.map((key) => ({ key, pot: NOTE, values: null, by: 0 })))
    for (const values of START_ROWS)
      this.store.put({ table: POTS, key: values[0], clustering: [values[1]], values, stamp: 1_000_000n, mark: false })
    this.postgres.onEffect = (written) => {
      const [first] = written
      for (const key of new Set(written.map((row) => row.key)))
        this.history.effect(
          key,
          written.filter((row) => row.key === key),
          { counts: key === first!.key },
        )
    }
  }

  /** Reverse sync: a bucket is deleted whole once the position is past it, durably, on each standby too. */
  #mustBePast(id: OutboxId, bucket: number): void {
    const saved = this.postgres.positions.get(`${id.group}/${id.lease}`)
    const last = Math.max(...[...this.store.outbox(id).keys()].filter((sequence) => bucketOf(sequence, ENTRIES_PER_BUCKET) === bucket), 0)
    // What comes after an outbox was read to its end for good is discarded.
    if (last > (saved?.sequence ?? 0) && !saved?.final)
      this.kernel.violated('INV-2', `bucket ${bucket} of ${id.lease} goes with entry ${last}, and the position is ${saved?.sequence ?? 0}`)
    const save = saved?.saves.find(({ sequence }) => sequence >= last)
    if (save !== undefined && last > 0) this.standby?.mustHave(save.lsn, () => `bucket ${bucket} of ${id.lease} goes`)
  }

  /** What one transaction does: adds nothing to a pot, or takes from one what it adds to another, or a note comes, changes or goes. */
  acts(): Acts {
    const { kernel } = this
    if (kernel.chance(0.3)) {
      const what = kernel.oneOf(['insert', 'delete', 0] as const)
      // Something of each transaction names it: of a row that is gone nobody could tell who took it away.
      return what === 'delete' || kernel.chance(0.5) ? { [NOTE]: what, [kernel.oneOf(POT_NAMES)]: 0 } : { [NOTE]: what }
    }
    if (kernel.chance(0.4)) return { [kernel.oneOf(POT_NAMES)]: 0 }
    const moved = 1 + kernel.random.int(9)
    return kernel.chance(0.5) ? { x: -moved, y: moved } : { y: -moved, z: moved }
  }
}

function endless(): AbortSignal {
  const { signal } = new AbortController()
  setMaxListeners(0, signal)
  return signal
}

/** INV-4, as the store sees it: one stamp is one content. */
class CheckedStore extends FakeStore {
  readonly #kernel: Kernel
  readonly #onDelete: (id: OutboxId, bucket: number) => void
  readonly #read: (id: OutboxId) => { readonly sequence: number; readonly final: boolean }
  readonly #appendedAt = new Map<string, number>()
  override readonly entriesPerBucket = ENTRIES_PER_BUCKET

  constructor(
    kernel: Kernel,
    onDelete: (id: OutboxId, bucket: number) => void,
    read: (id: OutboxId) => { readonly sequence: number; readonly final: boolean },
  ) {
    super()
    this.#kernel = kernel
    this.#read = read
    this.#onDelete = onDelete
  }

  /** No hole covers a whole bucket: it would be taken for the end. */
  override append(id: OutboxId, sequence: number, entry: OutboxEntry): void {
    super.append(id, sequence, entry)
    this.#appendedAt.set(`${id.group}/${id.lease}/${sequence}`, this.#kernel.now)
    const before = bucketOf(sequence, ENTRIES_PER_BUCKET) - 1
    const isThere = [...this.outbox(id).keys()].some((other) => bucketOf(other, ENTRIES_PER_BUCKET) === before)
    // What comes behind the end of an outbox that was read to its end for good is nobody's.
    const { sequence: read, final } = this.#read(id)
    if (before >= 0 && !isThere && !final && read < (before + 1) * ENTRIES_PER_BUCKET)
      this.#kernel.violated('INV-2', `entry ${sequence} of ${id.lease} comes behind a bucket that has none`)
  }

  /** Entries above the sequence that were there at that time. */
  thereBefore(id: OutboxId, sequence: number, at: number): number[] {
    const appendedAt = (other: number) => this.#appendedAt.get(`${id.group}/${id.lease}/${other}`)!
    return [...this.outbox(id).keys()].filter((other) => other > sequence && appendedAt(other) < at)
  }

  override deleteBucket(id: OutboxId, bucket: number): void {
    this.#onDelete(id, bucket)
    super.deleteBucket(id, bucket)
  }

  override put(put: Parameters<FakeStore['put']>[0]): void {
    const stored = this.row(put)
    if (stored !== undefined && stored.stamp === put.stamp && String(stored.values) !== String(put.values))
      this.#kernel.violated(
        'INV-4',
        `${put.key}${put.clustering} has two contents at stamp ${put.stamp}: ${stored.values} and ${put.values}`,
      )
    super.put(put)
  }
}
