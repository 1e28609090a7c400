// Promises: what the judge is shown of one span, put together from what the leader knows just now: the gateways' measurements, who owns how
// much, the reverse sync's lag, the last comparison, keys that saturate. Nothing that is not known is made up (INV-10).
import { type Arms, NO_COUNTS } from '../canary/arm-counts.ts'
import type { Evidence, Saturation } from '../canary/judge.ts'
import { type KeySaturation, SATURATION_BLOCK, SATURATION_WARN } from '../canary/saturation.ts'
import type { Measurements } from './judging-parts.ts'

export interface EvidenceSources {
  readonly measurements: Measurements
  /** Growth of the load that saturation is asked for. */
  readonly growth: number
  /** Slots that the target owns. */
  step(): number
  /** How far the reverse sync is behind now. */
  lagMs(): number
  /** The last settled comparison of both stores. */
  parity(): Evidence['parity']
  /** Wrong writes that were confirmed since the last call. */
  takeWrongWrites(): number
  /** As people may see a key. */
  keyName(key: string): string
}

/** As a statement among the others; it is there only with what turns the traffic back at once. */
const COMPARISON = 'comparison of both stores'
const KEYS_MOST = 32
/** A key that wavers about the threshold is said once. */
const LINGERS_MS = 60_000

export class EvidenceMaker {
  readonly #sources: EvidenceSources
  readonly #said = new Map<string, { readonly saturation: Saturation; readonly untilMs: number }>()
  #silent: readonly string[] = []
  #keys: readonly KeySaturation[] = []

  constructor(sources: EvidenceSources) {
    this.#sources = sources
  }

  /** Gateways of which nothing was heard in the last span. */
  get silent(): readonly string[] {
    return this.#silent
  }

  /** As the last span saw them, the hottest first. */
  get keys(): readonly KeySaturation[] {
    return this.#keys
  }

  /** Ends a span. `nowMs` by the wall clock, `monotonicMs` and the span's length by the monotonic one. */
  next({ nowMs, monotonicMs, spanMs }: { readonly nowMs: number; readonly monotonicMs: number; readonly spanMs: number }): Evidence {
    const { measurements, growth } = this.#sources
    const step = this.#sources.step()
    const { statements, silent } = measurements.takeSpan(nowMs)
    this.#silent = silent
    this.#keys = measurements.saturation(growth)
    const wrongWrites = this.#sources.takeWrongWrites()
    return {
      tMs: nowMs,
      spanMs,
      step,
      statements: step > 0 && wrongWrites > 0 ? { ...statements, [COMPARISON]: wrongArms(wrongWrites) } : statements,
      parity: this.#sources.parity(),
      lag: { tMs: nowMs, ms: this.#sources.lagMs() },
      saturation: this.#saturation(this.#keys, monotonicMs),
    }
  }

  #saturation(keys: readonly KeySaturation[], monotonicMs: number): Saturation[] {
    for (const { key, act, rho } of keys.slice(0, KEYS_MOST)) {
      if ((act !== 'warn' && act !== 'block') || rho === null) continue
      const name = this.#sources.keyName(key)
      const before = this.#said.get(name)
      // The graver of the two stays.
      if (before?.saturation.act === 'block' && act === 'warn' && before.untilMs > monotonicMs) continue
      const threshold = act === 'block' ? SATURATION_BLOCK : SATURATION_WARN
      this.#said.set(name, { saturation: { key: name, act, rho: rho.low, threshold }, untilMs: monotonicMs + LINGERS_MS })
    }
    for (const [name, { untilMs }] of this.#said) if (untilMs <= monotonicMs) this.#said.delete(name)
    return [...this.#said.values()].map(({ saturation }) => saturation)
  }
}

function wrongArms(wrongWrites: number): Arms {
  return { canary: { ...NO_COUNTS, wrongWrites }, control: NO_COUNTS }
}
