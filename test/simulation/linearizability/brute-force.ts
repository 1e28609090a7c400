// Promises: the definition of linearizability, tried in every order: slow, short, and nothing clever, to hold the two checkers against.
import type { Operation } from './search.ts'

export function isLinearizable<State>(state: State, left: readonly Operation<State>[]): boolean {
  if (left.every(({ ended }) => ended === Number.POSITIVE_INFINITY)) return true
  return left.some((one) => {
    if (left.some((other) => other !== one && other.ended < one.began)) return false
    const next = one.apply(state)
    return (
      next !== null &&
      isLinearizable(
        next,
        left.filter((other) => other !== one),
      )
    )
  })
}
