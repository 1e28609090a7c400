// Promises: whom the load asks for while it runs, and how often: as it began, or with its skew turned up on some accounts, or without some. Pure.
import { zipfPicker } from './zipf.ts'

export interface Steering {
  /** A share of the operations goes to these accounts, with Zipf's frequencies among them, the first hottest. */
  readonly hot?: { readonly accounts: readonly number[]; readonly share: number; readonly zipf: number }
  /** So many times the operations that it began with. */
  readonly times?: number
  /** Nothing is asked of these. */
  readonly avoid?: readonly number[]
}

/** Draws of an account to avoid that are made again; a load that has nobody else to ask is a mistake of whoever steers. */
const DRAWS_MAX = 10_000

export function steeredPicker(pick: () => number, steering: Steering, random: () => number): () => number {
  const { hot } = steering
  const avoid = new Set(steering.avoid)
  const pickHot = hot === undefined || hot.accounts.length === 0 ? null : rankedPicker(hot.accounts, hot.zipf, random)
  return () => {
    if (pickHot !== null && random() < hot!.share) return pickHot()
    for (let draws = 0; draws < DRAWS_MAX; draws++) {
      const account = pick()
      if (!avoid.has(account)) return account
    }
    throw new Error('every account is to be avoided')
  }
}

function rankedPicker(accounts: readonly number[], s: number, random: () => number): () => number {
  const rank = zipfPicker(accounts.length, s, random, { shuffled: false })
  return () => accounts[rank() - 1]!
}
