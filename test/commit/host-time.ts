// Promises: virtual time for hosts that sleep and die: their timers and replies come late or never.
import type { Clock } from '../../src/lib/clock.ts'
import { type Host, VirtualClock } from '../support/virtual-clock.ts'

export type { Host }

export function newHost(): Host {
  return { dead: false, until: 0 }
}

export class HostTime extends VirtualClock {
  constructor() {
    super(0)
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
