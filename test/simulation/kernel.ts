// Promises: one virtual clock, one source of chance and a network for all parts of a simulated move; the same seed, the same run. Hosts
// crash, are suspended and wake late; their clocks run at rates of their own and jump; links are cut, in one direction too.
import type { Clock } from '../../src/lib/clock.ts'
import { type Random, seededRandom } from '../../src/lib/prng.ts'
import { HostTime } from '../commit/host-time.ts'

/** A process on a machine of its own. A restart is a new host. */
export interface Host {
  readonly name: string
  dead: boolean
  /** Suspended until then. */
  until: number
  /** Its clocks' milliseconds a true one. */
  readonly rate: number
  /** What its monotonic clock has not counted while it was suspended. */
  stoodStillMs: number
  wallOffsetMs: number
  /** When its wall clock was set back last, and until when its monotonic clock stood still last. */
  setBackAt: number
  stoodStillUntil: number
}

export interface Weather {
  /** Of a message that is lost. */
  readonly lost: number
  /** Of one that comes late, and by how much at most. */
  readonly late: number
  readonly lateMs: number
  /** Of an idempotent one that comes a second time. */
  readonly twice: number
  readonly delayMs: number
}

const TICK_MS = 0.001
/** Above what a wall clock jumps by. */
const CLOCKS_AGREE_MS = 2_000
const NEVER = { setBackAt: Number.NEGATIVE_INFINITY, stoodStillUntil: Number.NEGATIVE_INFINITY }

export const STORMY: Weather = { lost: 0.002, late: 0.01, lateMs: 700, twice: 0.02, delayMs: 5 }
export const CALM: Weather = { lost: 0, late: 0, lateMs: 0, twice: 0, delayMs: 3 }

export class Kernel {
  readonly time = new HostTime()
  readonly random: Random
  readonly trace: string[] | null
  readonly violations: string[] = []
  weather: Weather = STORMY
  events = 0
  readonly #cut = new Map<string, number>()
  readonly #held = new Map<string, number>()
  #ids = 0

  constructor(seed: number, options: { readonly traced: boolean }) {
    this.random = seededRandom(seed)
    this.trace = options.traced ? [] : null
  }

  get now(): number {
    return this.time.now
  }

  nextId(): number {
    return ++this.#ids
  }

  chance(probability: number): boolean {
    return this.random.next() < probability
  }

  between(low: number, high: number): number {
    return low + this.random.next() * (high - low)
  }

  oneOf<T>(list: readonly T[]): T {
    return list[this.random.int(list.length)]!
  }

  /** What a person reads when a seed fails. Told lazily: most runs keep none. */
  told(who: string, what: () => string): void {
    this.events++
    this.trace?.push(`${this.now.toFixed(1).padStart(9)} ${who.padEnd(14)} ${what()}`)
  }

  violated(invariant: string, what: string): void {
    this.violations.push(`${invariant}: ${what}`)
    this.told('VIOLATION', () => `${invariant}: ${what}`)
  }

  host(name: string): Host {
    const stormy = this.weather.lost > 0
    const rate = stormy ? this.between(0.97, 1.03) : 1
    return { name, dead: false, until: 0, rate, stoodStillMs: 0, wallOffsetMs: this.between(-50, 50), ...NEVER }
  }

  suspend(host: Host, ms: number): void {
    host.until = Math.max(host.until, this.now + ms)
    // A suspended machine's monotonic clock stands still; a stopped process's goes on.
    if (!this.chance(0.5) || this.now < host.setBackAt + CLOCKS_AGREE_MS) return
    host.stoodStillMs += ms
    host.stoodStillUntil = Math.max(host.stoodStillUntil, host.until)
  }

  /**
   * Its wall clock jumps. Not back while its monotonic clock stands still: of a machine that sleeps, and is set back meanwhile, no clock is
   * left that tells how long, and no lease survives that.
   */
  jump(host: Host, byMs: number): number {
    const ms = this.now < host.stoodStillUntil + CLOCKS_AGREE_MS ? Math.abs(byMs) : byMs
    host.wallOffsetMs += ms
    if (ms < 0) host.setBackAt = this.now
    return ms
  }

  /** On a host: not while it is suspended, never once it is dead. The returned function takes it back. */
  on(host: Host, delayMs: number, call: () => void): () => void {
    return this.time.on(host, delayMs, call)
  }

  sleep(host: Host, ms: number): Promise<void> {
    return new Promise((resolve) => this.on(host, ms, resolve))
  }

  clock(host: Host): Clock {
    const monotonicMs = () => this.now * host.rate - host.stoodStillMs
    // Below what the clock can count, what is left of a wait would never pass.
    const after = (ms: number, call: () => void) => this.on(host, ms > 0 ? Math.max(ms / host.rate, TICK_MS) : 0, call)
    return {
      nowMs: () => this.now * host.rate + host.wallOffsetMs,
      monotonicMs,
      after,
      sleep: (ms, signal) =>
        new Promise((resolve) => {
          if (signal?.aborted) return resolve()
          const done = () => {
            cancel()
            signal?.removeEventListener('abort', done)
            resolve()
          }
          const cancel = after(ms, done)
          signal?.addEventListener('abort', done, { once: true })
        }),
    }
  }

  /** Messages from the one to the other are lost for so long. */
  cut(from: string, to: string, ms: number): void {
    this.told('network', () => `${from} -> ${to} is cut for ${ms.toFixed(0)} ms`)
    this.#cut.set(`${from}>${to}`, this.now + ms)
  }

  /** Messages from the one to the other come no sooner than then. */
  hold(from: string, to: string, ms: number): void {
    this.told('network', () => `${from} -> ${to} is held up for ${ms.toFixed(0)} ms`)
    this.#held.set(`${from}>${to}`, this.now + ms)
  }

  isCut(from: string, to: string): boolean {
    return this.now < lasts(this.#cut, from, to, this.now)
  }

  heal(): void {
    this.weather = CALM
    this.#cut.clear()
    this.#held.clear()
  }

  /** How long a message takes; Infinity: it is lost. */
  delay(from: string, to: string): number {
    const { lost, late, lateMs, delayMs } = this.weather
    if (this.isCut(from, to) || (lost > 0 && this.chance(lost))) return Number.POSITIVE_INFINITY
    const ms = late > 0 && this.chance(late) ? this.between(delayMs, lateMs) : this.between(0.2, delayMs)
    return Math.max(ms, lasts(this.#held, from, to, this.now) - this.now)
  }
}

/** Until when a link is in that state; what is over is forgotten, since each message asks. */
function lasts(links: Map<string, number>, from: string, to: string, now: number): number {
  if (links.size === 0) return 0
  const link = `${from}>${to}`
  const until = links.get(link) ?? 0
  if (until <= now) links.delete(link)
  return until
}
