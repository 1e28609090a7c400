// Promises: a server of the model of PostgreSQL: backends that go on after their clients have gone and wait for each other, a WAL whose
// commit records can be decoded before they are visible, the one logical slot's position, and a crash that loses what had not committed.
import { Signal } from '../../src/lib/latch.ts'
import type { SourceChange, SourceTransaction } from '../../src/model/change.ts'
import { type Lsn, lsnOf } from '../../src/model/ids.ts'
import type { Host, Kernel } from './kernel.ts'
import { type Backend, BackendGone, type Blocker, type Transaction } from './postgres-parts.ts'

const RECORD_BYTES = 48n
const STEP_MS = 0.6
const HALF_OPEN_MAX_MS = 1_500
const CHECKPOINT_EVERY_MS = 2_000

export abstract class Server {
  readonly kernel: Kernel
  host: Host
  readonly wal: SourceTransaction[] = []
  confirmed: Lsn = lsnOf(0n)
  /** The one walsender of the slot. */
  streaming: Backend | null = null
  readonly backends = new Set<Backend>()
  /** Notified at whatever may let somebody go on. */
  changed = new Signal()
  readonly walGrew = new Signal()
  /** Counts what has become visible: a snapshot is a number of it. */
  protected seq = 1
  #lsn = 1_000n
  /** A slot's confirmed position is on disk as of the last checkpoint: after a crash the stream begins there. */
  #saved = { confirmed: lsnOf(0n), at: 0 }
  readonly #waiting = new Map<Backend, () => readonly Blocker[]>()

  constructor(kernel: Kernel) {
    this.kernel = kernel
    this.host = kernel.host('postgres')
  }

  /** Lets go of whatever it holds. */
  protected abstract end(transaction: Transaction): void

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
    if (backend.transaction !== null && !backend.transaction.recorded) this.end(backend.transaction)
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
    this.confirmed = this.#saved.confirmed
  }

  restart(): void {
    this.kernel.told('postgres', () => 'starts again')
    this.host = this.kernel.host('postgres')
    this.changed = new Signal()
  }

  /** A little time inside the server, in which others go on. */
  async step(backend: Backend, ms = STEP_MS): Promise<void> {
    this.mustBe(backend)
    await this.kernel.sleep(this.host, this.kernel.between(0.05, ms))
    this.mustBe(backend)
  }

  protected mustBe(backend: Backend): void {
    if (backend.gone) throw new BackendGone()
  }

  /** `take` looks and takes in one turn, so that no two find the same thing free. `holders`: who has it then. */
  protected async taken(backend: Backend, take: () => boolean, holders: () => readonly Blocker[]): Promise<void> {
    try {
      while (!take()) {
        this.#waiting.set(backend, holders)
        await this.changed.next()
        this.mustBe(backend)
      }
    } finally {
      this.#waiting.delete(backend)
    }
  }

  /** Whom a backend waits for; nobody: it does not wait. */
  blockers(backend: Backend): readonly Blocker[] {
    return this.#waiting.get(backend)?.() ?? []
  }

  /** The commit record is in the WAL, and can be decoded, before its changes are visible; nothing takes it back any more. */
  protected async record(changes: readonly SourceChange[], origin: string | null, visible: () => void): Promise<void> {
    if (this.kernel.now - this.#saved.at > CHECKPOINT_EVERY_MS) this.#saved = { confirmed: this.confirmed, at: this.kernel.now }
    const commitLsn = lsnOf(this.#lsn)
    this.#lsn += RECORD_BYTES
    this.wal.push({ commitLsn, endLsn: lsnOf(this.#lsn), committedAtMs: this.kernel.now, origin, changes })
    this.walGrew.notify()
    // Not on the host: a crash here finds the record and replays it.
    const delayMs = this.down ? 0 : this.kernel.between(0, STEP_MS)
    await new Promise<void>((resolve) => {
      this.becomesVisible(delayMs, () => {
        this.seq++
        visible()
        this.changed.notify()
        resolve()
      })
    })
  }

  protected becomesVisible(delayMs: number, visible: () => void): void {
    this.kernel.time.after(delayMs, visible)
  }
}
