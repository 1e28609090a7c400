// Promises: a model of PostgreSQL as far as the protocol leans on it: row versions and snapshots, READ COMMITTED and REPEATABLE READ, row and
// table locks, the guard, a WAL with commit records that are decodable before they are visible, one logical slot, backends that go on
// after their clients have gone, and a crash that loses what had not committed. The control schema's acts are transactions like others.
import { Signal } from '../../src/lib/latch.ts'
import type { SourceChange } from '../../src/model/change.ts'
import type { FlipRecord, WaitingWriter } from '../../src/model/control.ts'
import { type LeaseId, type Lsn, lsnOf, type SlotId } from '../../src/model/ids.ts'
import type { Ownership, TenureRecord } from '../../src/model/ownership.ts'
import type { Row } from '../../src/model/row.ts'
import { POTS } from '../commit/fake-plans.ts'
import { type Acts, actOn } from './acts.ts'
import type { Kernel } from './kernel.ts'
import {
  type Backend,
  changeOf,
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
import { Rows } from './rows.ts'
import { Server } from './server.ts'

export const START_AMOUNT = 100

export class Postgres extends Server {
  readonly ownership = new Map<SlotId, OwnershipRow>()
  readonly tenures: TenureRecord[] = []
  /** A renewal has come; the faults'. */
  onRenewed: (lease: string) => void = () => undefined
  readonly leases = new Map<string, Lease>()
  readonly flips: FlipRecord[] = []
  /** By flip: when its intent was written. */
  readonly begun = new Map<string, number>()
  /** Flips whose marker is in the WAL. */
  readonly marked = new Set<string>()
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
  stateLock = new Mutex()
  readonly leaderSharers = new Set<Backend>()
  readonly woken = new Signal()
  readonly leasesChanged = new Signal()
  /** When each lease that is over was called so. */
  readonly overAt = new Map<LeaseId, number>()
  /** By a gateway that lives, as it sees it. */
  isHeld: (lease: LeaseId) => boolean = () => false
  /** Told of each committed write of a client or an applier, in the order in which PostgreSQL has them. */
  onEffect: (rows: readonly WrittenRow[], origin: string | null) => void = () => undefined
  readonly #rows = new Rows()
  readonly #writers = new Set<Transaction>()

  constructor(kernel: Kernel, slots: readonly SlotId[]) {
    super(kernel)
    for (const slot of slots) {
      const row: Ownership = { slot, owner: 'source', phase: 'steady', readOnly: false, epoch: 1, tenure: 1, base: 1_000_000n }
      this.ownership.set(slot, { versions: [{ seq: 0, value: row }], sharers: new Set(), updating: false })
      this.tenures.push({ slot, tenure: 1, owner: 'source', base: 1_000_000n, firstLsn: lsnOf(1n) })
    }
  }

  seed(rows: readonly WrittenRow[]): void {
    for (const row of rows) this.#rows.versions.set(row.key + row.pot, [{ seq: 0, value: row }])
  }

  get rows(): ReadonlyMap<string, readonly Version<WrittenRow>[]> {
    return this.#rows.versions
  }

  override crash(): void {
    super.crash()
    this.leaderSharers.clear()
    for (const row of this.ownership.values()) row.updating = false
  }

  override restart(): void {
    super.restart()
    // What waited for a lock died with its backend.
    this.stateLock = new Mutex()
    for (const [id, lease] of this.leases) this.leases.set(id, { ...lease, locked: new Mutex() })
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
      changes: [],
      locked: new Set(),
      recorded: false,
      ended: false,
    }
    backend.transaction = transaction
    return transaction
  }

  /** Returns what it tells of each row. Throws PgError as the guard or PostgreSQL refuses; the transaction is over then. */
  update(transaction: Transaction, key: string, slot: SlotId, acts: Acts, by: number): Promise<readonly string[]> {
    return this.#writing(transaction, async (snapshot) => {
      const told: string[] = []
      for (const pot of Object.keys(acts).sort()) {
        const act = acts[pot]!
        const found = act === 'insert' ? null : await this.#found(transaction, key + pot, snapshot)
        if (act !== 'insert' && found === null) continue
        await this.#guard(transaction, slot)
        // The trigger comes before the index, which waits for whoever may have put the same key there.
        if (found === null) await this.#lockEntry(transaction, key + pot)
        const acted = actOn(found?.values ?? null, act, { key, pot, by })
        if (acted === null || acted === 'there') throw new Error(`${act} of ${key}${pot}`)
        told.push(acted.told)
        transaction.changes.push(changeOf(act, { key, pot, values: acted.row }))
        this.#write(transaction, {
          key,
          pot,
          values: acted.row,
          by,
          fresh: found === null || transaction.writes.get(key + pot)?.fresh === true,
        })
      }
      return told
    })
  }

  /** `update ... set key = to`: the row leaves one aggregate for another. Returns it as it was; null: it was not there. */
  changeKey(transaction: Transaction, from: string, to: string, pot: string, by: number): Promise<Row | null> {
    return this.#writing(transaction, async (snapshot) => {
      const row = await this.#found(transaction, from + pot, snapshot)
      if (row === null) return null
      for (const key of [to, from]) await this.#guard(transaction, this.slotOf(key))
      await this.#lockEntry(transaction, to + pot)
      const values = [to, pot, row.values![2]!, String(by)]
      transaction.changes.push({ kind: 'update', table: POTS, before: [from, pot, undefined, undefined], after: values })
      this.#write(transaction, { key: from, pot, values: null, by, to: to + pot })
      this.#write(transaction, { key: to, pot, values, by, fresh: true })
      return row.values
    })
  }

  async #writing<T>(transaction: Transaction, statement: (snapshot: number) => Promise<T>): Promise<T> {
    const { backend } = transaction
    try {
      // The table lock comes before the snapshot: whoever has not seen a fence is in its wait set.
      await this.step(backend)
      transaction.writer = true
      this.#writers.add(transaction)
      await this.step(backend)
      if (transaction.isolation === 'repeatable read') transaction.snapshot ??= this.seq
      return await statement(transaction.snapshot ?? this.seq)
    } catch (error) {
      if (!backend.gone) this.end(transaction)
      throw error
    }
  }

  /** A row that `update` or `delete` finds by its snapshot and, once it is locked, as it has become. Null: it is not there, or not any more. */
  async #found(transaction: Transaction, id: string, snapshot: number): Promise<WrittenRow | null> {
    const own = transaction.writes.get(id)
    if (own !== undefined) return own.values === null ? null : own
    const seen = this.#rows.visible(id, snapshot)
    if (seen.value.values === null) return null
    // READ COMMITTED follows the row, and has locked it before it looks whether it is still the one that was asked for.
    for (let at: string | null = id; at !== null; ) {
      const held = transaction.locked.has(at)
      this.#mustBeUnchanged(transaction, id)
      await this.#lockRow(transaction, at)
      this.#mustBeUnchanged(transaction, id)
      const now = this.#rows.whereabouts(id, seen.seq)
      if (now === at) return at === id ? this.#rows.newest(id) : null
      if (!held) this.#rows.unlock(transaction, at)
      this.changed.notify()
      at = now
    }
    return null
  }

  #mustBeUnchanged({ snapshot }: Transaction, id: string): void {
    if (snapshot !== null && this.rows.get(id)!.at(-1)!.seq > snapshot)
      throw new PgError('40001', 'could not serialize access due to concurrent update')
  }

  /** Of the primary key's index: waits for whoever may have put the same key there, or taken it away. */
  async #lockEntry(transaction: Transaction, id: string): Promise<void> {
    const rows = this.#rows
    await this.taken(
      transaction.backend,
      () => rows.isFree(transaction, id),
      () => [rows.holder(id)],
    )
    const mustBeNew = () => {
      if ((transaction.writes.get(id) ?? rows.newest(id)).values === null) return
      throw new PgError('23505', 'duplicate key value violates unique constraint')
    }
    mustBeNew()
    await this.#lockRow(transaction, id)
    // Of several that waited for one to go away, the first has put it there meanwhile.
    mustBeNew()
  }

  /** Who waits for a row that has left its key finds it, though another has come there. */
  #write(transaction: Transaction, row: WrittenRow): void {
    const id = row.key + row.pot
    const to = row.to ?? transaction.writes.get(id)?.to
    transaction.writes.set(id, to === undefined ? row : { ...row, to })
  }

  async #lockRow(transaction: Transaction, id: string): Promise<WrittenRow> {
    const { backend } = transaction
    await this.taken(
      backend,
      () => this.#rows.lock(transaction, id),
      () => [this.#rows.holder(id)],
    )
    await this.step(backend, 0.2)
    return transaction.writes.get(id) ?? this.#rows.newest(id)
  }

  /** The row trigger (protocols.md, Guard in PostgreSQL). */
  async #guard(transaction: Transaction, slot: SlotId): Promise<void> {
    const row = this.ownership.get(slot)!
    if (transaction.isolation === 'repeatable read') {
      // `for share`: waits for an update under way, and fails where the row has changed since the snapshot.
      const take = () => {
        if (row.versions.at(-1)!.seq > transaction.snapshot!) throw new PgError('40001', 'the ownership row has changed')
        if (row.updating) return false
        row.sharers.add(transaction)
        return true
      }
      await this.taken(transaction.backend, take, () => ['leader'])
    }
    const { owner, phase, readOnly } = row.versions.at(-1)!.value
    if (owner === 'target') throw new PgError('55000', 'the key lives on the target')
    if (readOnly) throw new PgError('25006', 'read-only')
    if (phase === 'fenced') throw new PgError('40001', 'the key is being moved')
  }

  async commit(transaction: Transaction): Promise<void> {
    const { backend } = transaction
    await this.step(backend)
    const rows = [...transaction.writes.values()]
    if (rows.length === 0) return this.end(transaction)
    for (const { key } of rows) this.#mustBeOurs(key, transaction)
    transaction.recorded = true
    await this.record(transaction.changes, null, () => {
      this.#rows.become(rows, this.seq)
      this.end(transaction)
      this.onEffect(rows, null)
    })
    this.mustBe(backend)
  }

  rollback(transaction: Transaction): void {
    this.end(transaction)
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

  protected override end(transaction: Transaction): void {
    if (transaction.ended) return
    transaction.ended = true
    if (transaction.backend.transaction === transaction) transaction.backend.transaction = null
    for (const id of [...transaction.locked]) this.#rows.unlock(transaction, id)
    for (const row of this.ownership.values()) row.sharers.delete(transaction)
    this.#writers.delete(transaction)
    this.changed.notify()
  }

  /** Rows of a key, of one snapshot. */
  async read(backend: Backend, transaction: Transaction | null, key: string, pots: readonly string[]): Promise<Row[]> {
    await this.step(backend)
    if (transaction?.isolation === 'repeatable read') transaction.snapshot ??= this.seq
    const snapshot = transaction?.snapshot ?? this.seq
    return pots.flatMap((pot) => {
      const own = transaction?.writes.get(key + pot)
      const { values } = own ?? this.#rows.visible(key + pot, snapshot).value
      return values === null ? [] : [values]
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
      await this.record(changes ?? [], null, () => {
        this.#mustLead(token)
        for (const change of staged) change()
        this.leaderSharers.delete(backend)
        lock.release()
      })
      this.mustBe(backend)
      return value
    } finally {
      if (mine) {
        this.leaderSharers.delete(backend)
        lock.release()
      }
      this.changed.notify()
    }
  }

  /** One leader: whoever shares the leader's row holds a new token up until what it does is visible. */
  #mustLead(token: number): void {
    if (token !== this.token)
      this.kernel.violated('one leader', `what a leader of token ${token} does is visible under token ${this.token}`)
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
    versions.push({ seq: this.seq, value: { ...versions.at(-1)!.value, ...change } })
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
      await this.record([], null, () => {
        const before = this.leases.get(id)!
        this.#mustBeALease(before, change)
        this.leases.set(id, { ...before, ...change })
        locked.release()
      })
      this.mustBe(backend)
      return value
    } finally {
      if (mine) locked.release()
    }
  }

  /** INV-8: what is over is over, and nobody is called over who serves still. */
  #mustBeALease(before: Lease, change: Partial<Lease>): void {
    const { lease } = before
    if (before.over && change.renewals !== undefined) this.kernel.violated('INV-8', `lease ${lease} is renewed, and was called over`)
    if (before.over || !change.over) return
    this.overAt.set(lease, this.kernel.now)
    if (this.isHeld(lease)) this.kernel.violated('INV-8', `lease ${lease} is called over, and its gateway holds it`)
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
      await this.record(
        changesOf(due.rows, (row) => this.#rows.isThere(row)),
        origin,
        () => {
          this.#mustLead(token)
          this.#rows.become(due.rows, this.seq)
          due.visible()
          this.leaderSharers.delete(backend)
          this.end(transaction)
          for (const rows of due.effects) this.onEffect(rows, origin)
        },
      )
      this.mustBe(backend)
    } finally {
      if (mine) {
        this.leaderSharers.delete(backend)
        this.end(transaction)
      }
      this.changed.notify()
    }
  }

  /** A new leader's token: waits for the acts that hold the row. */
  async raiseToken(backend: Backend): Promise<number> {
    const take = () => {
      if (this.leaderSharers.size > 0) return false
      this.token++
      this.beats++
      return true
    }
    await this.taken(backend, take, () => [...this.leaderSharers])
    return this.token
  }
}
