// Promises: up to which version of each aggregate this gateway knows the transactions to be finished. A fact once true stays true,
// whatever lease learned it; forgetting one costs a look and is never wrong. Bounded.
import type { Tenure } from '../model/ids.ts'
import type { AggregateKey } from '../model/key.ts'

export interface Knowledge {
  /** Every version up to and including it is finished. 0: nothing of this tenure is known; before it there was only the forward sync. */
  finishedUpTo(key: AggregateKey, tenure: Tenure): number
  learn(key: AggregateKey, tenure: Tenure, version: number): void
}

export function createKnowledge(limits: { readonly knownHeadsMax: number }): Knowledge {
  const known = new Map<AggregateKey, { tenure: Tenure; version: number }>()
  return {
    finishedUpTo(key, tenure) {
      const at = known.get(key)
      return at !== undefined && at.tenure === tenure ? at.version : 0
    },
    learn(key, tenure, version) {
      if (version <= 0) return
      const at = known.get(key)
      if (at === undefined) {
        if (known.size >= limits.knownHeadsMax) known.delete(known.keys().next().value as AggregateKey)
        known.set(key, { tenure, version })
      } else if (tenure > at.tenure || (tenure === at.tenure && version > at.version)) {
        at.tenure = tenure
        at.version = version
      }
    },
  }
}
