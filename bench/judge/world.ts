// Promises: what a service goes through in a day, second by second, under a seed: both arms in the same weather. Each kind of weather is a
// world of its own; "harsh" is all of them at once, and what the figures are taken in.
import type { Random } from '../../src/lib/prng.ts'
import { exponential, normal, poisson } from './draws.ts'

export interface Weather {
  /** The rate follows the day, between half and one and a half times its mean, and latency follows the rate. */
  readonly diurnal: boolean
  /** Rate and latency wander, correlated over minutes; each arm's latency a little by itself. */
  readonly noise: boolean
  /** Both arms are 1.5 to 3 times as slow for some seconds, some times an hour. */
  readonly bursts: boolean
  /** Each of eight gateways pauses for 50 to 250 ms every 90 s or so. */
  readonly gc: boolean
  /** Four times a day almost everything waits for two to six seconds: on both arms, or on either alone. */
  readonly stalls: boolean
  /** Three times a day 90 slow seconds with errors on both arms, and another latency from then on. */
  readonly deploys: boolean
  /** From six to eight the rate grows by a third and latency by a quarter, and by ten both are back. */
  readonly morning: boolean
}

const CALM: Weather = { diurnal: false, noise: false, bursts: false, gc: false, stalls: false, deploys: false, morning: false }

export const WORLDS = {
  calm: CALM,
  diurnal: { ...CALM, diurnal: true },
  noise: { ...CALM, noise: true },
  bursts: { ...CALM, bursts: true },
  gc: { ...CALM, gc: true },
  stalls: { ...CALM, stalls: true },
  deploys: { ...CALM, deploys: true },
  morning: { ...CALM, morning: true },
  harsh: { diurnal: true, noise: true, bursts: true, gc: true, stalls: true, deploys: true, morning: true },
} as const satisfies Record<string, Weather>

export type WorldName = keyof typeof WORLDS

/** What holds for all requests of one span. */
export interface Moment {
  /** Of the mean rate. */
  readonly rate: number
  readonly canary: ArmMoment
  readonly control: ArmMoment
}

export interface ArmMoment {
  /** Of the usual latency. */
  readonly slowness: number
  /** This share of the requests waits from nothing to `ms` longer: a gateway's pause, a stall. */
  readonly pauses: readonly { readonly share: number; readonly ms: number }[]
  readonly errorShare: number
}

export const DAY_S = 86_400
/** A third more at the top of a slope of two hours up and two down. */
const MORNING_MEAN = 1 + 1 / 3 / 12
const USUAL_ERRORS = 0.001
const GATEWAYS = 8

export class World {
  readonly #weather: Weather
  readonly #random: Random
  /** Second of the day. */
  #clockS: number
  #rateNoise = 0
  #noise = { both: 0, canary: 0, control: 0 }
  #burst = { leftS: 0, slowness: 1 }
  #stall = { leftS: 0, ms: 0, share: 0, arms: 'both' as 'both' | 'canary' | 'control' }
  #deployLeftS = 0
  #release = 0
  #errorsLeftS = 0

  constructor(weather: Weather, random: Random) {
    this.#weather = weather
    this.#random = random
    this.#clockS = random.next() * DAY_S
  }

  next(spanS: number): Moment {
    this.#clockS = (this.#clockS + spanS) % DAY_S
    const { rate, slowness, errorShare } = this.#shared(spanS)
    const gc = this.#gcPauses(spanS)
    this.#begin(spanS)
    const arm = (name: 'canary' | 'control'): ArmMoment => ({
      slowness: slowness * Math.exp(this.#noise[name]),
      errorShare,
      pauses: this.#stall.leftS > 0 && (this.#stall.arms === 'both' || this.#stall.arms === name) ? [...gc, this.#stall] : gc,
    })
    const moment = { rate, canary: arm('canary'), control: arm('control') }
    for (const one of [this.#burst, this.#stall]) one.leftS = Math.max(0, one.leftS - spanS)
    return moment
  }

  #shared(spanS: number): { readonly rate: number; readonly slowness: number; readonly errorShare: number } {
    const { diurnal, noise, morning } = this.#weather
    let rate = diurnal ? 1 + 0.5 * Math.sin((2 * Math.PI * (this.#clockS - DAY_S / 3)) / DAY_S) : 1
    let slowness = Math.exp(this.#release)
    if (morning) {
      const height = Math.max(0, 1 - Math.abs(this.#clockS / 3_600 - 8) / 2)
      rate *= (1 + height / 3) / MORNING_MEAN
      slowness *= 1 + height / 4
    }
    if (noise) {
      this.#rateNoise = this.#wander(this.#rateNoise, 0.12, spanS / 60)
      this.#noise = {
        both: this.#wander(this.#noise.both, 0.08, spanS / 120),
        canary: this.#wander(this.#noise.canary, 0.02, spanS / 60),
        control: this.#wander(this.#noise.control, 0.02, spanS / 60),
      }
      rate *= Math.exp(this.#rateNoise)
    }
    if (diurnal) slowness *= 1 + 0.15 * (rate - 1)
    slowness *= Math.exp(this.#noise.both)
    if (this.#burst.leftS > 0) slowness *= this.#burst.slowness
    if (this.#deployLeftS > 0) slowness *= 1.4
    const errorShare = USUAL_ERRORS + (this.#deployLeftS > 0 ? 0.005 : 0) + (this.#errorsLeftS > 0 ? 0.02 : 0)
    return { rate, slowness, errorShare }
  }

  /** What begins by chance is there from the next span on, a stall in this one. */
  #begin(spanS: number): void {
    const { bursts, stalls, deploys } = this.#weather
    const comes = (perDay: number) => this.#random.next() < (perDay * spanS) / DAY_S
    if (bursts && comes(72)) this.#burst = { leftS: Math.min(60, exponential(this.#random, 12)), slowness: 1.5 + 1.5 * this.#random.next() }
    if (stalls && comes(4)) {
      const seconds = 2 + 4 * this.#random.next()
      const arms = (['both', 'both', 'canary', 'control'] as const)[this.#random.int(4)]!
      this.#stall = { leftS: seconds, ms: seconds * 1_000, share: 0.6 + 0.4 * this.#random.next(), arms }
    }
    this.#deployLeftS = Math.max(0, this.#deployLeftS - spanS)
    this.#errorsLeftS = Math.max(0, this.#errorsLeftS - spanS)
    if (deploys && comes(3)) {
      this.#deployLeftS = 90
      this.#release = 0.08 * normal(this.#random)
    }
    if (deploys && comes(2)) this.#errorsLeftS = 20
  }

  #gcPauses(spanS: number): { readonly share: number; readonly ms: number }[] {
    if (!this.#weather.gc) return []
    return Array.from({ length: poisson(this.#random, (GATEWAYS * spanS) / 90) }, () => {
      const ms = 50 + 200 * this.#random.next()
      return { share: ms / (1_000 * spanS) / GATEWAYS, ms }
    })
  }

  /** One step of an Ornstein-Uhlenbeck process, its spread in the long run and the step in units of its memory. */
  #wander(value: number, spread: number, step: number): number {
    const keep = Math.exp(-step)
    return value * keep + spread * Math.sqrt(1 - keep * keep) * normal(this.#random)
  }
}
