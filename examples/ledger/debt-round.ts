// Promises: a store that was dead while the traffic went back answers again: what had to wait for it goes home by the order that waits, and
// what went home without it is a debt, which the next move to the store pays before its first key, as a user would see it. The load goes on.
import { FAULT_ACTS } from './fault-acts.ts'
import type { Stage } from './stage.ts'

export interface DebtRound {
  /** Slots that went home without the store. */
  readonly debtSlots: number
  /** From when it answered again until the last key was home. Null: not in time. */
  readonly parkedHomeMs: number | null
  /** From then until both stores had been compared and nothing was owed any more. Null: not in time. */
  readonly debtPaidMs: number | null
}

const HOME_WITHIN_MS = 60_000
const PAID_WITHIN_MS = 120_000
const TABLE_LOOK_MS = 100

/** Not to be called before the traffic is back without the store. */
export async function playDebt(stage: Stage, say: (text: string) => void): Promise<DebtRound> {
  const { watch } = stage
  const debtSlots = await watch.debtSlots()
  say(`The store answers again, with everything that was sent to it meanwhile. ${debtSlots} slots went home without it.`)
  const answersMs = Date.now()
  FAULT_ACTS['no answers'].end(stage)
  const sinceMs = () => Date.now() - answersMs
  const allHome = async () => (await watch.slotsOnTarget()).size === 0
  if (!(await stage.comesTrue(allHome, HOME_WITHIN_MS, TABLE_LOOK_MS))) return { debtSlots, parkedHomeMs: null, debtPaidMs: null }
  const parkedHomeMs = sinceMs()
  say(`  What had to wait for it is home ${parkedHomeMs} ms later.`)
  await stage.untilReady()
  say('switchback canary start 1%: before a key moves there again the debt is paid, both stores compared and put right.')
  const paid = async () => (await watch.debtSlots()) === 0
  const [inTime] = await Promise.all([
    stage.comesTrue(paid, PAID_WITHIN_MS, TABLE_LOOK_MS).then((came) => (came ? sinceMs() : null)),
    stage.run(['canary', 'start', '1%']),
  ])
  if (inTime !== null) say(`  Nothing is owed ${inTime} ms after the store answered again.`)
  say('switchback rollback: keys go home once more, now with the store.')
  await stage.run(['rollback'])
  return { debtSlots, parkedHomeMs, debtPaidMs: inTime }
}
