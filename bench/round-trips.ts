// Promises: how many store calls of a transaction wait for one another, counted where they are made.
import type { Target } from '../src/model/target.ts'

export interface CountedTarget {
  readonly target: Target
  /** Calls one after the other since the last look; those that were under way at the same time count once. */
  take(): number
}

/** For one transaction at a time. */
export function countTrips(target: Target): CountedTarget {
  let inFlight = 0
  let trips = 0
  const counted = new Proxy(target, {
    get(of, name) {
      const member = Reflect.get(of, name, of) as unknown
      if (typeof member !== 'function') return member
      return (...args: unknown[]) => {
        const result = member.apply(of, args) as unknown
        if (!(result instanceof Promise)) return result
        if (inFlight++ === 0) trips++
        return result.finally(() => {
          inFlight--
        })
      }
    },
  })
  return {
    target: counted,
    take() {
      const taken = trips
      trips = 0
      return taken
    },
  }
}
