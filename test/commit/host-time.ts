// Promises: virtual time for hosts that sleep and die: their timers and replies come late or never.
import type { Clock } from '../../src/lib/clock.ts'
import { VirtualClock } from '../support/virtual-clock.ts'

export interface Host {
  dead: boolean
  /** Sleeps until then. */
  until: number
}

export function newHost(): Host {
  return { dead: false, until: 0 }
}

export class HostTime extends VirtualClock {
  constructor() {
    super(0)
  }

  /** On a host: not while it sleeps, never once it is dead. The returned function takes it back. */
  on(host: Host, delayMs: number, call: () => void): () => void {
    let cancel = this.after(delayMs, () => {
      if (host.dead) return
      if (this.now < host.until) cancel = this.on(host, host.until - this.now, call)
      else call()
    })
    return () => cancel()
  }

  clock(host: Host): Clock {
    return {
      nowMs: () => this.now,
      monotonicMs: () => this.now,
      sleep: (ms) => new Promise((resolve) => this.on(host, ms, resolve)),
      after: (ms, call) => this.on(host, ms, call),
    }
  }
}
