// Promises: a model of PostgreSQL as far as the protocol leans on it: row versions and snapshots, READ COMMITTED and REPEATABLE READ, row and
// table locks, the guard, a WAL with commit records that are decodable before they are visible, one logical slot, backends that go on
// after their clients have gone, and a crash that loses what had not committed. The control schema's acts are transactions like others.
import { Signal } from '../../src/lib/latch.ts'
import type { SourceChange, SourceTransaction } from '../../src/model/change.ts'
import type { FlipRecord, WaitingWriter } from '../../src/model/control.ts'
import { type Lsn, lsnOf, type SlotId } from '../../src/model/ids.ts'
import type { Ownership, TenureRecord } from '../../src/model/ownership.ts'
import type { Row } from '../../src/model/row.ts'
import { type Acts, actOn } from './acts.ts'
import type { Host, Kernel } from './kernel.ts'
import {
  type Backend,
  BackendGone,
  changesOf,
  type Due,
  type Job,
  type Lease,
  Mutex,
  type OwnershipRow,
  PgError,
  type SavedPosition,
  type Transaction,
  type Version,
  type WrittenRow,
} from './postgres-parts.ts'

export const START_AMOUNT = 100
const RECORD_BYTES = 48n
const STEP_MS = 0.6
const HALF_OPEN_MAX_MS = 1_500
const CHECKPOINT_EVERY_MS = 2_000

export class Postgres {
  readonly kernel: Kernel
  host: Host
  readonly ownership = new Map<SlotId, OwnershipRow>()
  readonly rows = new Map<string, Version<WrittenRow>[]>()
  readonly wal: SourceTransaction[] = []
  readonly tenures: TenureRecord[] = []
  readonly leases = new Map<string, Lease>()
  readonly flips: FlipRecord[] = []
  readonly applied = new Map<string, { slot: SlotId; tenure: number; version: number; txnId: string }>()
  readonly positions = new Map<string, SavedPosition>()
  readonly jobs: Job[] = []
  /** By slot: the tenure of PostgreSQL that began in debt. */
  readonly debts = new Map<SlotId, { flip: string; tenure: number }>()
  /** Slots in which read-only is in force: who made it so has been told. */
  readonly closed = new Set<SlotId>()
  /** Named standbys that the journal has struck off. */
  readonly struck = new Set<string>()
  /** By flip and state: no standby that has this LSN lacks it. */
  readonly journaledAt = new Map<string, Lsn>()
  epoch = 1
  token = 0
  beats = 0
  confirmed: Lsn = lsnOf(0n)
  /** The one walsender of the slot. */
  streaming: Backend | null = null
  readonly backends = new Set<Backend>()
  stateLock = new Mutex()
  readonly leaderSharers = new Set<Backend>()
  /** Notified at whatever may let somebody go on. */
  changed = new Signal()
  readonly walGrew = new Signal()
  readonly woken = new Signal()
  readonly leasesChanged = new Signal()
  /** Told of each committed write of a client or an applier, in the order in which PostgreSQL has them. */
  onEffect: (rows: readonly WrittenRow[], origin: string | null) => void = () => undefined
  /** A slot's confirmed position is on disk as of the last checkpoint: after a crash the stream begins there. */
  #saved = { confirmed: lsnOf(0n), at: 0 }
  #seq = 1
  #lsn = 1_000n
  readonly #rowLocks = new Map<string, Transaction>()
  readonly #writers = new Set<Transaction>()

  constructor(kernel: Kernel, slots: readonly SlotId[]) {
    this.kernel = kernel
    this.host = kernel.host('postgres')
    for (const slot of slots) {
      const row: Ownership = { slot, owner: 'source', phase: 'steady', readOnly: false, epoch: 1, tenure: 1, base: 1_000_000n }
      this.ownership.set(slot, { versions: [{ seq: 0, value: row }], sharers: new Set(), updating: false })
      this.tenures.push({ slot, tenure: 1, owner: 'source', base: 1_000_000n, firstLsn: lsnOf(1n) })
    }
  }

  seed(rows: readonly WrittenRow[]): void {
    for (const row of rows) this.rows.set(row.key + row.pot, [{ seq: 0, value: row }])
  }

  get down(): boolean {
    return this.host.dead
  }

  get insertLsn(): Lsn {
    return lsnOf(this.#lsn)
  }

  connect(client: Host, applicationName: string): Backend {
    if (this.down) throw new BackendGone('PostgreSQL is down')
    const backend: Backend = { pid: this.kernel.nextId(), client, applicationName, gone: false, transaction: null }
    this.backends.add(backend)
    return backend
  }

  /** Ends a backend: its transaction rolls back, unless its commit record is written. */
  terminate(backend: Backend): void {
    if (backend.gone) return
    backend.gone = true
    this.backends.delete(backend)
    if (this.streaming === backend) this.streaming = null
    if (backend.transaction !== null && !backend.transaction.recorded) this.#end(backend.transaction)
    this.changed.notify()
    this.walGrew.notify()
  }

  /** The server hears of a dead client's socket at once, or finds out by keepalive. */
  left(backend: Backend): void {
    const delayMs = this.kernel.chance(0.7) ? this.kernel.between(1, 30) : this.kernel.between(200, HALF_OPEN_MAX_MS)
    this.kernel.time.after(delayMs, () => this.terminate(backend))
  }

  clientDied(host: Host): void {
    for (const backend of this.backends) if (backend.client === host) this.left(backend)
  }

  crash(): void {
    this.kernel.told('postgres', () => 'kill -9')
    this.host.dead = true
    for (const backend of [...this.backends]) this.terminate(backend)
    this.leaderSharers.clear()
    for (const row of this.ownership.values()) row.updating = false
    this.confirmed = this.#saved.confirmed
  }

  restart(): void {
    this.kernel.told('postgres', () => 'starts again')
    this.host = this.kernel.host('postgres')
    // What waited for a lock died with its backend.
    this.stateLock = new Mutex()
    for (const [id, lease] of this.leases) this.leases.set(id, { ...lease, locked: new Mutex() })
    this.changed = new Signal()
  }

  /** A little time inside the server, in which others go on. */
  async step(backend: Backend, ms = STEP_MS): Promise<void> {
    this.#mustBe(backend)
    await this.kernel.sleep(this.host, this.kernel.between(0.05, ms))
    this.#mustBe(backend)
  }

  #mustBe(backend: Backend): void {
    if (backend.gone) throw new BackendGone()
  }

  /** `take` looks and takes in one turn, so that no two find the same thing free. */
  async #taken(backend: Backend, take: () => boolean): Promise<void> {
    while (!take()) {
      await this.changed.next()
      this.#mustBe(backend)
    }
  }

  // ---- clients

  begin(backend: Backend, isolation: Transaction['isolation']): Transaction {
    const transaction: Transaction = {
      backend,
      isolation,
      virtualTransaction: `${backend.pid}/${this.kernel.nextId()}`,
      startedAt: this.kernel.now,
      snapshot: null,
      writer: false,
      writes: new Map(),
      locked: new Set(),
      recorded: false,
      ended: false,
    }
    backend.transaction = transaction
    return transaction
  }

  /** Returns what it tells of each row. Throws PgError as the guard or PostgreSQL refuses; the transaction is over then. */
  update(transaction: Transaction, key: string, slot: SlotId, acts: Acts, by: number): Promise<readonly string[]> {
    return this.#writing(transaction, async () => {
      const told: string[] = []
      for (const pot of Object.keys(acts).sort()) {
        const row = await this.#lockRow(transaction, key + pot)
        const acted = actOn(row.values, acts[pot]!, { key, pot, by })
        if (acted === null) continue
        await this.#guard(transaction, slot)
        if (acted === 'there') throw new PgError('23505', 'duplicate key value violates unique constraint')
        told.push(acted.told)
        transaction.writes.set(key + pot, { key, pot, values: acted.row, by })
      }
      return told
    })
  }

  /** `update ... set key = to`: the row leaves one aggregate for another. Returns it as it was; null: it was not there. */
  changeKey(transaction: Transaction, from: string, to: string, pot: string, by: number): Promise<Row | null> {
    return this.#writing(transaction, async () => {
      const row = await this.#lockRow(transaction, from + pot)
      if (row.values === null) return null
      for (const key of [from, to]) await this.#guard(transaction, this.slotOf(key))
      const there = await this.#lockRow(transaction, to + pot)
      if (there.values !== null) throw new PgError('23505', 'duplicate key value violates unique constraint')
      transaction.writes.set(from + pot, { key: from, pot, values: null, by })
      transaction.writes.set(to + pot, { key: to, pot, values: [to, pot, row.values[2]!, String(by)], by, from })
      return row.values
    })
  }

  async #writing<T>(transaction: Transaction, statement: () => Promise<T>): Promise<T> {
    const { backend } = transaction
    try {
      // The table lock comes before the snapshot: whoever has not seen a fence is in its wait set.
      await this.step(backend)
      transaction.writer = true
      this.#writers.add(transaction)
      await this.step(backend)
      if (transaction.isolation === 'repeatable read') transaction.snapshot ??= this.#seq
      return await statement()
    } catch (error) {
      if (!backend.gone) this.#end(transaction)
      throw error
    }
  }

  async #lockRow(transaction: Transaction, id: string): Promise<WrittenRow> {
    const { backend, snapshot } = transaction
    await this.#taken(backend, () => {
      const holder = this.#rowLocks.get(id)
      if (holder !== undefined && holder !== transaction) return false
      this.#rowLocks.set(id, transaction)
      transaction.locked.add(id)
      return true
    })
    const newest = this.rows.get(id)!.at(-1)!
    if (snapshot !== null && newest.seq > snapshot) throw new PgError('40001', 'could not serialize access due to concurrent update')
    await this.step(backend, 0.2)
    return transaction.writes.get(id) ?? newest.value
  }

  /** The row trigger (protocols.md, Guard in PostgreSQL). */
  async #guard(transaction: Transaction, slot: SlotId): Promise<void> {
    const row = this.ownership.get(slot)!
    if (transaction.isolation === 'repeatable read') {
      // `for share`: waits for an update under way, and fails where the row has changed since the snapshot.
      await this.#taken(transaction.backend, () => {
        if (row.updating) return false
        if (row.versions.at(-1)!.seq > transaction.snapshot!) throw new PgError('40001', 'the ownership row has changed')
        row.sharers.add(transaction)
        return true
      })
    }
    const { owner, phase, readOnly } = row.versions.at(-1)!.value
    if (owner === 'target') throw new PgError('55000', 'the key lives on the target')
    if (phase === 'fenced') throw new PgError('40001', 'the key is being moved')
    if (readOnly) throw new PgError('25006', 'read-only')
  }

  async commit(transaction: Transaction): Promise<void> {
    const { backend } = transaction
    await this.step(backend)
    const rows = [...transaction.writes.values()]
    if (rows.length === 0) return this.#end(transaction)
    for (const { key } of rows) this.#mustBeOurs(key, transaction)
    transaction.recorded = true
    await this.#record(
      changesOf(rows, (row) => this.#isThere(row)),
      null,
      () => {
        for (const row of rows) this.rows.get(row.key + row.pot)!.push({ seq: this.#seq, value: row })
        this.#end(transaction)
        this.onEffect(rows, null)
      },
    )
    this.#mustBe(backend)
  }

  rollback(transaction: Transaction): void {
    this.#end(transaction)
  }

  slotOf: (key: string) => SlotId = () => 0

  /** INV-1, as PostgreSQL's own half of it. */
  #mustBeOurs(key: string, transaction: Transaction): void {
    const { owner } = this.owned(this.slotOf(key))
    if (this.closed.has(this.slotOf(key))) this.kernel.violated('read-only', `PostgreSQL commits a write to ${key}`)
    if (owner === 'source') return
    this.kernel.violated(
      'INV-1',
      `PostgreSQL commits a write to ${key} by ${[...transaction.writes.values()][0]!.by}, which the target owns`,
    )
  }

  #end(transaction: Transaction): void {
    if (transaction.ended) return
    transaction.ended = true
    if (transaction.backend.transaction === transaction) transaction.backend.transaction = null
    for (const id of transaction.locked) if (this.#rowLocks.get(id) === transaction) this.#rowLocks.delete(id)
    for (const row of this.ownership.values()) row.sharers.delete(transaction)
    this.#writers.delete(transaction)
    this.changed.notify()
  }

  /** Rows of a key, of one snapshot. */
  async read(backend: Backend, transaction: Transaction | null, key: string, pots: readonly string[]): Promise<Row[]> {
    await this.step(backend)
    if (transaction?.isolation === 'repeatable read') transaction.snapshot ??= this.#seq
    const snapshot = transaction?.snapshot ?? this.#seq
    return pots.flatMap((pot) => {
      const own = transaction?.writes.get(key + pot)
      const { values } = own ?? this.rows.get(key + pot)!.findLast(({ seq }) => seq <= snapshot)!.value
      return values === null ? [] : [values]
    })
  }

  #isThere({ key, pot }: WrittenRow): boolean {
    return this.rows.get(key + pot)!.at(-1)!.value.values !== null
  }

  /** The commit record is in the WAL, and can be decoded, before its changes are visible; nothing takes it back any more. */
  async #record(changes: readonly SourceChange[], origin: string | null, visible: () => void): Promise<void> {
    if (this.kernel.now - this.#saved.at > CHECKPOINT_EVERY_MS) this.#saved = { confirmed: this.confirmed, at: this.kernel.now }
    const commitLsn = lsnOf(this.#lsn)
    this.#lsn += RECORD_BYTES
    this.wal.push({ commitLsn, endLsn: lsnOf(this.#lsn), committedAtMs: this.kernel.now, origin, changes })
    this.walGrew.notify()
    // Not on the host: a crash here finds the record and replays it.
    const delayMs = this.down ? 0 : this.kernel.between(0, STEP_MS)
    await new Promise<void>((resolve) => {
      this.kernel.time.after(delayMs, () => {
        this.#seq++
        visible()
        this.changed.notify()
        resolve()
      })
    })
  }

  // ---- the control schema

  owned(slot: SlotId): Ownership {
    return this.ownership.get(slot)!.versions.at(-1)!.value
  }

  /** A transaction of the leader: token, one act at a time on the state, all of it or nothing. `body` stages what becomes visible. */
  async act<T>(
    backend: Backend,
    token: number,
    body: (stage: (change: () => void) => void) => { value: T; changes?: readonly SourceChange[] },
  ): Promise<T> {
    await this.step(backend)
    if (token !== this.token) throw new PgError('TOKEN_STALE', 'another controller leads')
    this.leaderSharers.add(backend)
    const lock = this.stateLock
    await lock.take()
    let mine = true
    try {
      await this.step(backend)
      const staged: (() => void)[] = []
      const { value, changes } = body((change) => staged.push(change))
      mine = false
      await this.#record(changes ?? [], null, () => {
        for (const change of staged) change()
        this.leaderSharers.delete(backend)
        lock.release()
      })
      this.#mustBe(backend)
      return value
    } finally {
      if (mine) {
        this.leaderSharers.delete(backend)
        lock.release()
      }
      this.changed.notify()
    }
  }

  /** Rows locked `for no key update nowait`, until the act is visible. */
  lockSlots(slots: readonly SlotId[], stage: (change: () => void) => void): void {
    const rows = slots.map((slot) => this.ownership.get(slot)!)
    if (rows.some((row) => row.sharers.size > 0)) throw new PgError('55P03', 'an ownership row is held')
    for (const row of rows) row.updating = true
    stage(() => {
      for (const row of rows) row.updating = false
    })
  }

  own(slot: SlotId, change: Partial<Ownership>): void {
    const { versions } = this.ownership.get(slot)!
    versions.push({ seq: this.#seq, value: { ...versions.at(-1)!.value, ...change } })
  }

  /** Work on one lease's row, which others wait for. `body` may take time; what it returns becomes visible with the commit. */
  async onLease<T>(backend: Backend, id: string, body: (lease: Lease) => Promise<{ value: T; change: Partial<Lease> | null }>): Promise<T> {
    await this.step(backend)
    const { locked } = this.leases.get(id)!
    await locked.take()
    let mine = true
    try {
      await this.step(backend)
      const { value, change } = await body(this.leases.get(id)!)
      if (change === null) return value
      mine = false
      await this.#record([], null, () => {
        this.leases.set(id, { ...this.leases.get(id)!, ...change })
        locked.release()
      })
      this.#mustBe(backend)
      return value
    } finally {
      if (mine) locked.release()
    }
  }

  /** Virtual transactions that may still write the mapped table. */
  writers(): WaitingWriter[] {
    return [...this.#writers].map((transaction) => ({
      pid: transaction.backend.pid,
      backendStart: String(transaction.backend.pid),
      virtualTransaction: transaction.virtualTransaction,
      ageMs: this.kernel.now - transaction.startedAt,
      query: 'update',
      user: 'service',
      gid: null,
    }))
  }

  // ---- the reverse applier

  async applyRows(backend: Backend, token: number, origin: string, work: () => Promise<Due | null>): Promise<void> {
    await this.step(backend)
    if (token !== this.token) throw new PgError('TOKEN_STALE', 'another controller leads')
    this.leaderSharers.add(backend)
    const transaction = this.begin(backend, 'read committed')
    let mine = true
    try {
      const due = await work()
      if (due === null) return
      for (const { key, pot } of due.rows) await this.#lockRow(transaction, key + pot)
      await this.step(backend)
      mine = false
      transaction.recorded = true
      await this.#record(
        changesOf(due.rows, (row) => this.#isThere(row)),
        origin,
        () => {
          for (const row of due.rows) this.rows.get(row.key + row.pot)!.push({ seq: this.#seq, value: row })
          due.visible()
          this.leaderSharers.delete(backend)
          this.#end(transaction)
          for (const rows of due.effects) this.onEffect(rows, origin)
        },
      )
      this.#mustBe(backend)
    } finally {
      if (mine) {
        this.leaderSharers.delete(backend)
        this.#end(transaction)
      }
      this.changed.notify()
    }
  }

  /** A new leader's token: waits for the acts that hold the row. */
  async raiseToken(backend: Backend): Promise<number> {
    await this.#taken(backend, () => {
      if (this.leaderSharers.size > 0) return false
      this.token++
      this.beats++
      return true
    })
    return this.token
  }
}
