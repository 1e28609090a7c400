// Promises: one fault from its beginning until the judge's verdict, the traffic off the target and back: what of it the controller has
// durably recorded, and what the load saw. The fault goes on until the keys are served again.
import { hashSlotOf } from '../../src/model/key.ts'
import { accountsIn, FAULT_ACTS } from './fault-acts.ts'
import type { Round } from './incident-report.ts'
import { type Fault, TOLD } from './incidents.ts'
import type { LoadSample } from './load.ts'
import type { Stage } from './stage.ts'
import type { RecordedVerdict } from './watch.ts'

export interface RoundOptions {
  readonly accounts: number
  readonly random: () => number
  readonly say: (text: string) => void
}

const VERDICT_WITHIN_MS = 120_000
const OFF_WITHIN_MS = 60_000
const BACK_WITHIN_MS = 60_000
/** Writes on keys of the canary that were sent after the traffic was off the target, until it counts as back. */
const BACK_WRITES = 20
const TABLE_LOOK_MS = 100

export async function playFault(stage: Stage, fault: Fault, options: RoundOptions): Promise<Round> {
  const { say } = options
  const slots = await stage.watch.slotsOnTarget()
  const before = await stage.watch.newestRollback()
  const act = FAULT_ACTS[fault]
  say(TOLD[fault])
  const onsetMs = Date.now()
  const canary = accountsIn(slots, options.accounts)
  act.begin(stage, canary, options.random)
  const verdict = await untilRecorded(stage, VERDICT_WITHIN_MS, (newest) => newest.id !== before?.id)
  if (verdict !== null) say(`  The judge's verdict after ${seconds(verdict.atMs - onsetMs)}: ${verdict.detector}. The traffic goes back.`)
  const off = verdict === null ? null : await untilOff(stage, verdict)
  if (off !== null && verdict !== null) say(`  The traffic is off the store ${Math.round(off.offMs - verdict.atMs)} ms after the verdict.`)
  const parked = new Set(off === null ? [] : await stage.watch.parkedSlots())
  const served = accountsIn(slots, options.accounts).filter((account) => !parked.has(hashSlotOf(String(account))))
  // Whom nobody asks for is asked for again, so that it shows that they are served.
  if (fault === 'no traffic') act.end(stage)
  const backMs = off === null ? null : await untilBack(stage, new Set(served), off.offMs)
  return {
    fault,
    onsetMs,
    verdict,
    offMs: off?.offMs ?? null,
    backMs,
    parkedSlots: [...parked],
    canaryRequestsPerSecond: requestsPerSecond(stage.load.samples, new Set(canary), [onsetMs, verdict?.atMs ?? Date.now()]),
  }
}

async function untilRecorded(stage: Stage, withinMs: number, holds: (newest: RecordedVerdict) => boolean): Promise<RecordedVerdict | null> {
  let newest: RecordedVerdict | null = null
  const recorded = async () => {
    newest = await stage.watch.newestRollback()
    return newest !== null && holds(newest)
  }
  return (await stage.comesTrue(recorded, withinMs, TABLE_LOOK_MS)) ? newest : null
}

/** As recorded; where slots stay parked for a store that is silent, nothing is: then when the last of the others was routed. */
async function untilOff(stage: Stage, verdict: RecordedVerdict): Promise<{ readonly offMs: number } | null> {
  let routed = false
  const recorded = async () => {
    const newest = await stage.watch.newestRollback()
    if (newest?.id === verdict.id && newest.offMs !== null) return true
    routed = await stage.watch.onlyParkedLeft()
    return routed
  }
  if (!(await stage.comesTrue(recorded, OFF_WITHIN_MS, TABLE_LOOK_MS))) return null
  const newest = await stage.watch.newestRollback()
  if (newest?.offMs != null) return { offMs: newest.offMs }
  const home = (await stage.watch.flips()).filter((flip) => flip.rollback && flip.endMs >= verdict.atMs)
  return home.length === 0 ? null : { offMs: Math.max(...home.map((flip) => flip.endMs)) }
}

/** When enough writes that were sent since then have been acknowledged. */
async function untilBack(stage: Stage, accounts: ReadonlySet<number>, sinceMs: number): Promise<number | null> {
  const { samples } = stage.load
  let seen = samples.length
  let left = BACK_WRITES
  let backMs: number | null = null
  const enough = () => {
    for (; seen < samples.length && left > 0; seen++) {
      const { kind, outcome, account, intendedMs, latencyMs } = samples[seen]!
      if (kind !== 'write' || outcome !== 'acknowledged' || intendedMs < sinceMs || !accounts.has(account)) continue
      left--
      backMs = intendedMs + latencyMs
    }
    return left === 0
  }
  return (await stage.comesTrue(enough, BACK_WITHIN_MS)) ? backMs : null
}

function requestsPerSecond(samples: readonly LoadSample[], canary: ReadonlySet<number>, [fromMs, toMs]: readonly [number, number]): number {
  let requests = 0
  for (const { account, intendedMs, latencyMs, statements } of samples) {
    const doneMs = intendedMs + latencyMs
    if (doneMs >= fromMs && doneMs <= toMs && canary.has(account)) requests += statements
  }
  return Math.round((requests / Math.max(1, toMs - fromMs)) * 1_000)
}

function seconds(ms: number): string {
  return `${(ms / 1_000).toFixed(1)} s`
}
