// Promises: a named standby of PostgreSQL: it has the WAL a little later, is killed, cut off and comes back; and what may not happen while
// it lacks something is looked at where it happens (INV-2; protocols.md, Durable control).
import { type Lsn, lsnOf } from '../../src/model/ids.ts'
import type { StandbyRow } from '../../src/model/standby.ts'
import type { Host, Kernel } from './kernel.ts'
import type { Postgres } from './postgres.ts'

export const STANDBY = 'standby'
export const STANDBY_LOST_MS = 600
const RECEIVE_MS = { from: 1, to: 40 }
/** Above it the walsender gives up: the primary does not list it any more. */
const WALSENDER_TIMEOUT_MS = 300

export class Standby {
  host: Host
  flushed: Lsn = lsnOf(0n)
  readonly #kernel: Kernel
  readonly #postgres: Postgres
  #replies = 0
  #reported: Lsn = lsnOf(0n)
  #lastReply = 0

  constructor(kernel: Kernel, postgres: Postgres) {
    this.#kernel = kernel
    this.#postgres = postgres
    this.host = kernel.host(STANDBY)
    this.start()
  }

  start(): void {
    this.host = this.#kernel.host(STANDBY)
    this.#kernel.told(STANDBY, () => 'starts')
    void this.#receive(this.host)
  }

  crash(): void {
    this.#kernel.told(STANDBY, () => 'kill -9')
    this.host.dead = true
  }

  async #receive(host: Host): Promise<void> {
    const kernel = this.#kernel
    for (;;) {
      await kernel.sleep(host, kernel.between(RECEIVE_MS.from, RECEIVE_MS.to))
      const sent = this.#postgres.insertLsn
      const there = kernel.delay('postgres', STANDBY)
      if (this.#postgres.down || there === Number.POSITIVE_INFINITY) continue
      await kernel.sleep(host, there)
      const reply = kernel.delay(STANDBY, 'postgres')
      if (sent > this.flushed) this.flushed = sent
      if (reply === Number.POSITIVE_INFINITY) continue
      const flushed = this.flushed
      kernel.time.after(reply, () => {
        this.#reported = flushed
        this.#replies++
        this.#lastReply = kernel.now
      })
    }
  }

  /** As the primary sees it. */
  rows(): StandbyRow[] {
    if (this.#kernel.now - this.#lastReply > WALSENDER_TIMEOUT_MS) return []
    return [{ name: STANDBY, flushLsn: this.#reported, sign: String(this.#replies) }]
  }

  /** Were it promoted now, it would not know of this. */
  mustHave(lsn: Lsn, what: () => string): void {
    if (this.#postgres.struck.has(STANDBY) || this.flushed >= lsn) return
    this.#kernel.violated('INV-2', `the standby lacks ${lsn - this.flushed} bytes: ${what()}`)
  }
}
