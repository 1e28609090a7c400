// Promises: a write of Switchback's own (the probe, a repair) as the commit engine takes it: one key, no SQL behind it.
import type { KeyedPlan } from '../model/plan.ts'

export function ownPlan(plan: { readonly key: string; readonly insertedRows: number } & Pick<KeyedPlan, 'reads' | 'run'>): KeyedPlan {
  const { key, insertedRows, reads, run } = plan
  return {
    kind: 'keyed',
    readOnly: false,
    locks: false,
    returnsRows: false,
    key: () => key,
    asks: [],
    parameterTypes: [],
    insertedRows,
    reads,
    run,
  }
}
