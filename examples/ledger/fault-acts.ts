// Promises: how the demo makes each fault, and how it takes it away. None plants a sleep in Switchback: the load changes, or a line does.
import { hashSlotOf } from '../../src/model/key.ts'
import type { Fault } from './incidents.ts'
import { DemoFailed, type Stage } from './stage.ts'

export interface FaultAct {
  /** `canary`: accounts that the target owns. */
  begin(stage: Stage, canary: readonly number[], random: () => number): void
  end(stage: Stage): void
}

const HOT_KEYS_MAX = 8
/** More commits of one key than can stand in its line, also on a machine that has nothing else to do: each takes some six milliseconds there. */
const HOT_SHARE = 0.85
const HOT_ZIPF = 3
const HOT_TIMES = 3
const REFUSED_SHARE = 0.2
const DELAY_MS = 80

const REFUSAL = JSON.stringify({ __type: 'com.amazon.coral.service#AccessDeniedException', message: 'not authorized' })
const REFUSAL_REPLY = `HTTP/1.1 400 Bad Request\r\ncontent-type: application/x-amz-json-1.0\r\ncontent-length: ${REFUSAL.length}\r\nconnection: close\r\n\r\n${REFUSAL}`

const steeredBack = { end: (stage: Stage) => stage.load.steer({}) }
const storeMended = { end: (stage: Stage) => linesOf(stage).store.mend() }

export const FAULT_ACTS: Readonly<Record<Fault, FaultAct>> = {
  'hot keys': {
    begin: (stage, canary) =>
      stage.load.steer({ hot: { accounts: canary.slice(0, HOT_KEYS_MAX), share: HOT_SHARE, zipf: HOT_ZIPF }, times: HOT_TIMES }),
    ...steeredBack,
  },
  'refused requests': {
    begin: (stage, _, random) => linesOf(stage).store.answer({ share: REFUSED_SHARE, random, reply: REFUSAL_REPLY }),
    ...storeMended,
  },
  'slow answers': { begin: (stage) => linesOf(stage).store.break('delay', { delayMs: DELAY_MS }), ...storeMended },
  'no answers': { begin: (stage) => linesOf(stage).store.break('black hole'), ...storeMended },
  'no reports': { begin: (stage) => linesOf(stage).feed.break('black hole'), end: (stage) => linesOf(stage).feed.mend() },
  'no traffic': { begin: (stage, canary) => stage.load.steer({ avoid: canary }), ...steeredBack },
}

/** Accounts of 1 to `accounts` in these slots. */
export function accountsIn(slots: ReadonlySet<number>, accounts: number): number[] {
  return Array.from({ length: accounts }, (_, i) => i + 1).filter((account) => slots.has(hashSlotOf(String(account))))
}

function linesOf(stage: Stage) {
  if (stage.world.lines === null) throw new DemoFailed('this world has no lines that can be broken')
  return stage.world.lines
}
