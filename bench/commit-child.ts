// Promises: a gateway's commit engine and feed at a steady rate of transactions, one row each, without clients; when each became known
// to be committed, by the wall clock that the other processes of this machine have too.
import { randomUUID } from 'node:crypto'
import { startFeedClient } from '../src/app/feed-client.ts'
import { createExecutor } from '../src/commit/executor.ts'
import { systemClock } from '../src/lib/clock.ts'
import { systemRandom } from '../src/lib/prng.ts'
import type { LeaseHandle } from '../src/model/executor.ts'
import { groupOfHashSlot, hashSlotOf } from '../src/model/key.ts'
import type { Mapping } from '../src/model/mapping.ts'
import type { FeedEndpoint } from '../src/store/endpoint.ts'
import { connectMemoryTarget } from '../src/targets/memory/client.ts'
import { openLoop, taskOf } from './child.ts'
import { DEPOSIT, STATEMENT_ENV } from './deposit.ts'

export interface CommitTask {
  readonly targetPort: number
  readonly mapping: Mapping
  readonly endpoint: FeedEndpoint
  readonly lease: string
  readonly tenure: number
  readonly base: string
  readonly accounts: number
  readonly perSecond: number
  readonly seconds: number
}

export interface CommitAnswer {
  /** [transaction, wall clock milliseconds]. */
  readonly committed: readonly (readonly [string, number])[]
  readonly seconds: number
}

const task = taskOf<CommitTask>()
const target = connectMemoryTarget({ port: task.targetPort, clock: systemClock, random: systemRandom })
const feed = startFeedClient({ gateway: 'bench', endpoint: async () => task.endpoint, clock: systemClock, random: systemRandom })
feed.lease(task.lease)
const committed: [string, number][] = []
const lease: LeaseHandle = { id: task.lease, holds: () => true }
const engine = createExecutor({
  target,
  mapping: task.mapping,
  clock: systemClock,
  random: systemRandom,
  flights: { enter() {}, leave() {} },
  settled: {
    settled(entry) {
      committed.push([entry.entry.txnId, performance.timeOrigin + performance.now()])
      feed.settled(entry)
    },
  },
  txnIds: randomUUID,
})
const base = BigInt(task.base)
const fromMs = performance.now()
await openLoop({ perSecond: task.perSecond, seconds: task.seconds }, async (n) => {
  const key = String(((n * 7919) % task.accounts) + 1)
  const slot = hashSlotOf(key)
  await engine.autocommit(lease, { key, slot, group: groupOfHashSlot(slot), tenure: task.tenure, base }, DEPOSIT, [key], STATEMENT_ENV)
})
const answer: CommitAnswer = { committed, seconds: (performance.now() - fromMs) / 1_000 }
await feed.close()
await target.close()
process.stdout.write(JSON.stringify(answer))
