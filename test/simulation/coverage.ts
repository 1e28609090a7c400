// Promises: which faults have struck while what was being done, as pairs with counts; and which pairs cannot be.

import type { Host } from './kernel.ts'

export const FAULTS = [
  'kill -9 of a gateway',
  'kill -9 of a controller',
  'kill -9 of PostgreSQL',
  'kill -9 of a standby',
  'a gateway is suspended',
  'a controller is suspended',
  'a link is cut',
  'replies of PostgreSQL are held up',
  'requests to PostgreSQL are held up',
  'writes to the target come late',
  'a clock jumps',
  'the target is slow',
  'a partition of the target is throttled',
  'the target answers nothing',
] as const

export type Fault = (typeof FAULTS)[number]

export const STEPS = [
  'flip: precheck',
  'flip: intent',
  'flip: park',
  'flip: fence',
  'flip: drain',
  'flip: verify',
  'flip: commit',
  'flip: route',
  'commit: readHead',
  'commit: readRows',
  'commit: readRange',
  'commit: compareAndSetHead',
  'commit: appendEntry',
  'commit: putRows',
  'sync: putRows',
  'sync: readHead',
  'sync: readOutbox',
  'sync: deleteBucket',
  'sync: apply',
  'sync: savePositions',
] as const

export type Step = (typeof STEPS)[number]

interface Doing {
  readonly step: Step
  readonly host: Pick<Host, 'dead'>
}

export interface Pair {
  readonly fault: Fault
  readonly step: Step
  readonly hits: number
  /** Why it cannot be; null: it can. */
  readonly unreachable: string | null
}

export interface Unreachable {
  readonly fault: Fault
  readonly step: Step
  readonly because: string
}

/** None: every step takes time, and every fault may strike at any. Listed in docs/internals/proof.md. */
export const UNREACHABLE: readonly Unreachable[] = []

/** Seeds from which on a pair that was never hit is a fault of the scenario. */
export const LONG_RUN_SEEDS = 10_000

/** What is wrong with what so many seeds have hit, a sentence each. */
export function coverageProblems(pairs: readonly Pair[], seeds: number): string[] {
  return pairs.flatMap(({ fault, step, hits, unreachable }) => {
    if (unreachable !== null && hits > 0) return [`${fault} x ${step} was hit ${hits} times, and is listed as unreachable: ${unreachable}`]
    if (unreachable === null && hits === 0 && seeds >= LONG_RUN_SEEDS) return [`${fault} x ${step} was never hit in ${seeds} seeds`]
    return []
  })
}

export class Coverage {
  readonly #unreachable: ReadonlyMap<string, string>
  readonly #doing = new Set<Doing>()
  readonly #hits = new Map<string, number>()
  /** Faults that lie in wait for a step, one of each kind. */
  readonly lying = new Map<string, (step: Step, host: Pick<Host, 'dead'>) => void>()

  constructor(unreachable = UNREACHABLE) {
    this.#unreachable = new Map(unreachable.map(({ fault, step, because }) => [`${fault} x ${step}`, because]))
  }

  /** The returned function says that it has ended. What a dead host did has ended with it. */
  begun(step: Step, host: Pick<Host, 'dead'>): () => void {
    const doing = { step, host }
    this.#doing.add(doing)
    for (const look of [...this.lying.values()]) look(step, host)
    return () => this.#doing.delete(doing)
  }

  during<T>(step: Step, host: Pick<Host, 'dead'>, work: Promise<T>): Promise<T> {
    return work.finally(this.begun(step, host))
  }

  struck(fault: Fault): void {
    const steps = new Set<Step>()
    for (const doing of this.#doing) {
      if (doing.host.dead) this.#doing.delete(doing)
      else steps.add(doing.step)
    }
    for (const step of steps) this.#add(fault, step, 1)
  }

  add(other: Coverage): void {
    for (const { fault, step, hits } of other.pairs()) if (hits > 0) this.#add(fault, step, hits)
  }

  #add(fault: Fault, step: Step, hits: number): void {
    const pair = `${fault} x ${step}`
    this.#hits.set(pair, (this.#hits.get(pair) ?? 0) + hits)
  }

  /** Every pair, those that were never hit too. */
  pairs(): Pair[] {
    return FAULTS.flatMap((fault) =>
      STEPS.map((step) => {
        const pair = `${fault} x ${step}`
        return { fault, step, hits: this.#hits.get(pair) ?? 0, unreachable: this.#unreachable.get(pair) ?? null }
      }),
    )
  }
}
