// Promises: this gateway's lease (protocols.md, Leases): it counts from before it sent the renewal, by the larger of monotonic and
// wall clock; a renewal answered after the lapse revives nothing; each start and each renewal after a lapse is a new lease.
// INV-8: `holds()` is false from the lapse on, for good, whether or not a timer has fired.
import { type BackoffLimits, backoffMs } from '../lib/backoff.ts'
import type { Clock } from '../lib/clock.ts'
import { Signal } from '../lib/latch.ts'
import type { Random } from '../lib/prng.ts'
import type { GatewayControl, Renewal } from '../model/control.ts'
import type { LeaseHandle } from '../model/executor.ts'
import type { LeaseId } from '../model/ids.ts'
import type { RoutingView } from '../model/ownership.ts'

export interface LeaseTimes {
  readonly lengthMs: number
  readonly renewMs: number
  /** The leader waits so much longer before it calls a lease over; the holder does not use it up. */
  readonly marginRatio: number
}

export interface LeaseEvents {
  /** A renewal has come in time. */
  renewed(renewal: Renewal, lease: LeaseHandle): void
  /** Between two renewals, a wake-up has brought a view; the lease lasts no longer for it. */
  viewed(view: RoutingView, lease: LeaseHandle): void
  /** The lease is over: everything mapped ends now. */
  lapsed(lease: LeaseHandle): void
  /** A renewal or the opening of a lease failed; it is tried again. */
  failed(error: unknown): void
}

export interface LeaseHolderOptions {
  readonly control: GatewayControl
  readonly gateway: string
  readonly clock: Clock
  readonly random: Random
  readonly times: LeaseTimes
  readonly events: LeaseEvents
}

export interface LeaseHolder {
  /** The lease that holds now, or null. */
  current(): LeaseHandle | null
  /** Looks for a change now, e.g. at a notification. */
  poke(): void
  /** Gives the lease up: nothing mapped is served any more. */
  close(): Promise<void>
}

const RETRY: BackoffLimits = { firstMs: 50, capMs: 1_000 }

interface Moment {
  readonly monotonicMs: number
  readonly wallMs: number
}

export function startLeaseHolder(options: LeaseHolderOptions): LeaseHolder {
  const holder = new Holder(options)
  // Runs until close(); failures are told by events.failed.
  void holder.run()
  return holder
}

class Lease implements LeaseHandle {
  readonly id: LeaseId
  readonly #clock: Clock
  readonly #lengthMs: number
  #sent: Moment
  #over = false

  constructor(id: LeaseId, clock: Clock, lengthMs: number, sent: Moment) {
    this.id = id
    this.#clock = clock
    this.#lengthMs = lengthMs
    this.#sent = sent
  }

  holds(): boolean {
    if (!this.#over && this.leftMs() <= 0) this.#over = true
    return !this.#over
  }

  /** The monotonic clock stands still in a suspended machine, and the wall clock may be set back: the larger one counts. */
  leftMs(): number {
    const elapsedMs = Math.max(this.#clock.monotonicMs() - this.#sent.monotonicMs, this.#clock.nowMs() - this.#sent.wallMs)
    return this.#lengthMs - elapsedMs
  }

  end(): void {
    this.#over = true
  }

  /** `sent` was taken before the renewal left. An answer after the lapse revives nothing. */
  extend(sent: Moment): boolean {
    if (!this.holds()) return false
    this.#sent = sent
    return this.holds()
  }
}

class Holder implements LeaseHolder {
  readonly #options: LeaseHolderOptions
  readonly #stop = new AbortController()
  readonly #wake = new Signal()
  #poked = false
  #lease: Lease | null = null
  #view: RoutingView | null = null
  #cancelExpiry: (() => void) | null = null
  #failures = 0
  #renewAtMs = 0

  constructor(options: LeaseHolderOptions) {
    this.#options = options
  }

  current(): LeaseHandle | null {
    return this.#lease?.holds() ? this.#lease : null
  }

  poke(): void {
    this.#poked = true
    this.#wake.notify()
  }

  async run(): Promise<void> {
    const { control, clock, events, random } = this.#options
    const unlisten = control.onWake(() => this.poke())
    while (!this.#stop.signal.aborted) {
      this.#poked = false
      try {
        if (this.#lease?.holds() && clock.monotonicMs() < this.#renewAtMs) await this.#look(this.#lease)
        else await this.#renew()
        this.#failures = 0
      } catch (error) {
        if (this.#stop.signal.aborted) break
        events.failed(error)
        this.#renewAtMs = clock.monotonicMs() + backoffMs(this.#failures++, RETRY, random)
      }
      await this.#pause(Math.max(0, this.#renewAtMs - clock.monotonicMs()), this.#failures > 0)
    }
    unlisten()
  }

  async close(): Promise<void> {
    this.#stop.abort()
    this.#wake.notify()
    const lease = this.#lease
    this.#lapse()
    // Not told to the leader: it sees the lease unrenewed, which only takes longer.
    if (lease !== null) await this.#answered(this.#options.control.release(lease.id)).catch(() => undefined)
  }

  async #look(lease: Lease): Promise<void> {
    const view = await this.#answered(this.#options.control.look(this.#view!))
    if (lease !== this.#lease || !lease.holds()) return
    this.#view = view
    this.#options.events.viewed(view, lease)
  }

  async #renew(): Promise<void> {
    const { control, gateway, clock, times } = this.#options
    this.#renewAtMs = clock.monotonicMs() + times.renewMs
    if (!this.#lease?.holds()) {
      this.#lapse()
      const id = await this.#answered(control.openLease(gateway))
      const sent = this.#moment()
      const renewal = await this.#answered(control.renew(id, this.#view))
      if (renewal === 'over') throw new LeaseCalledOver()
      const lease = new Lease(id, clock, times.lengthMs, sent)
      if (!lease.holds()) throw new RenewalLate()
      if (this.#stop.signal.aborted) return
      this.#lease = lease
      return this.#renewed(renewal)
    }
    const lease = this.#lease
    const sent = this.#moment()
    const renewal = await this.#answered(control.renew(lease.id, this.#view))
    if (renewal === 'over') {
      this.#lapse()
      throw new LeaseCalledOver()
    }
    if (!lease.extend(sent)) {
      this.#lapse()
      throw new RenewalLate()
    }
    this.#renewed(renewal)
  }

  #renewed(renewal: Renewal): void {
    this.#view = renewal.view
    this.#watchExpiry()
    this.#options.events.renewed(renewal, this.#lease!)
  }

  /** A timer only hastens the end; `holds()` does not depend on it. */
  #watchExpiry(): void {
    this.#cancelExpiry?.()
    const lease = this.#lease
    if (lease === null) return
    this.#cancelExpiry = this.#options.clock.after(Math.max(1, lease.leftMs()), () => {
      if (lease !== this.#lease) return
      if (lease.holds()) return this.#watchExpiry()
      this.#lapse()
      this.poke()
    })
  }

  #lapse(): void {
    const lease = this.#lease
    if (lease === null) return
    this.#lease = null
    this.#cancelExpiry?.()
    lease.end()
    this.#options.events.lapsed(lease)
  }

  /** A call that hangs is given up after a lease's length; whatever it brings later is not looked at. */
  #answered<T>(call: Promise<T>): Promise<T> {
    const { clock, times } = this.#options
    return new Promise<T>((resolve, reject) => {
      const cancel = clock.after(times.lengthMs, () => reject(new RenewalLate()))
      call.then(resolve, reject).finally(cancel)
    })
  }

  async #pause(ms: number, failed: boolean): Promise<void> {
    if (this.#stop.signal.aborted || (this.#poked && !failed)) return
    const disarm = this.#options.clock.after(ms, () => this.#wake.notify())
    await this.#wake.next()
    disarm()
  }

  #moment(): Moment {
    return { monotonicMs: this.#options.clock.monotonicMs(), wallMs: this.#options.clock.nowMs() }
  }
}

class LeaseCalledOver extends Error {
  override readonly message = 'the leader has called the lease over'
}

class RenewalLate extends Error {
  override readonly message = 'the renewal was answered after the lease had lapsed'
}
