// Promises: where a ramp stands, in a word, and what it waits for. Pure.
import type { RampRow } from './ramp-decision.ts'

export interface RampStanding {
  readonly id: number
  readonly state: string
  /** The step that is out or on its way, from 1; 0: none yet. */
  readonly step: number
  readonly steps: number
  /** Of the requests, that step's share; null: no step yet. */
  readonly percent: number | null
  readonly bakedMs: number
  readonly heldBecause: readonly string[]
  /** Why it ended, where it did not end well. */
  readonly because: string | null
}

export function rampStanding(ramp: RampRow): RampStanding {
  const { id, step, config, bakedMs, because } = ramp
  return {
    id,
    state: rampState(ramp),
    step: step + 1,
    steps: config.steps.length,
    percent: config.steps[step]?.percent ?? null,
    bakedMs,
    heldBecause: ramp.ended || isMoving(ramp) ? [] : ramp.heldBecause,
    because,
  }
}

/** A ramp that runs, and is held by something else than time, is `held`. */
export function rampState(ramp: RampRow): string {
  return ramp.state === 'running' && rampReasons(ramp).length > 0 ? 'held' : ramp.state
}

export function isMoving({ job }: RampRow): boolean {
  return job !== null && (job.state === 'open' || job.state === 'running')
}

/** What holds it, apart from the time that has to pass in any case. */
export function rampReasons(ramp: RampRow): readonly string[] {
  return ramp.ended || isMoving(ramp) ? [] : ramp.heldBecause.filter((one) => !/^(observed|baked) for /.test(one))
}
