// Promises: a few gateways with executors of their own over one fake store, for tests that say each fault by name.

import { createContentionCounters } from '../../src/commit/contention.ts'
import { type CommitExecutor, createExecutor } from '../../src/commit/executor.ts'
import type { CommitLimits } from '../../src/commit/limits.ts'
import { seededRandom } from '../../src/lib/prng.ts'
import type { SwitchbackError } from '../../src/model/errors.ts'
import type { AggregateAddress, SettledEntry } from '../../src/model/executor.ts'
import type { KeyedPlan, StatementResult } from '../../src/model/plan.ts'
import { ENV, MAPPING } from './fake-plans.ts'
import { type Call, FakeStore, type Fate, type Operation, remoteTarget } from './fake-store.ts'
import { HostTime, newHost } from './host-time.ts'

export const AT: AggregateAddress = { key: 'k', slot: 7, group: 3, tenure: 10, base: 1_000_000n }

export interface Gateway {
  readonly executor: CommitExecutor
  readonly lease: { id: string; holds: () => boolean; held: boolean }
  readonly calls: Call[]
  readonly settled: SettledEntry[]
  readonly flights: Map<number, number>
  readonly contention: ReturnType<typeof createContentionCounters>
  /** What becomes of the next messages; undefined: 1 ms there, 1 ms back. */
  fate: (operation: Operation, detail: unknown, nth: number) => Partial<Fate> | undefined
  run(plan: KeyedPlan, at?: AggregateAddress): Promise<StatementResult>
  /** Operations since the last look, those sent in the same instant joined by `+`. */
  sent(): string[]
}

export class Fixture {
  readonly time = new HostTime()
  readonly store = new FakeStore()
  #ids = 0

  gateway(name: string, options: { limits?: Partial<CommitLimits>; fifo?: boolean; maxEntryBytes?: number } = {}): Gateway {
    const host = newHost()
    const calls: Call[] = []
    const settled: SettledEntry[] = []
    const flights = new Map<number, number>()
    const counts = new Map<Operation, number>()
    const lease = { id: `${name}-1`, held: true, holds: () => lease.held }
    const contention = createContentionCounters({ keysMax: 100 })
    let looked = 0
    const target = remoteTarget({
      time: this.time,
      store: this.store,
      host,
      spreadMs: () => 0,
      onCall: (call) => calls.push(call),
      fate: (operation, detail) => {
        const nth = (counts.get(operation) ?? 0) + 1
        counts.set(operation, nth)
        return { requestMs: 1, replyMs: 1, ...gateway.fate(operation, detail, nth) }
      },
      ...(options.maxEntryBytes === undefined ? {} : { maxEntryBytes: options.maxEntryBytes }),
    })
    const bump = (by: number) => (slot: number) => void flights.set(slot, (flights.get(slot) ?? 0) + by)
    const executor = createExecutor({
      target,
      mapping: MAPPING,
      clock: this.time.clock(host),
      random: seededRandom(name.length),
      flights: { enter: bump(1), leave: bump(-1) },
      settled: { settled: (entry) => settled.push(entry) },
      contention,
      txnIds: () => `${name}:${++this.#ids}`,
      fifo: options.fifo ?? true,
      limits: { helpGraceMs: 0, ...options.limits },
    })
    const gateway: Gateway = {
      executor,
      lease,
      calls,
      settled,
      flights,
      contention,
      fate: () => undefined,
      run: (plan, at = AT) => executor.autocommit(lease, at, plan, [], ENV),
      sent: () => {
        const groups = new Map<number, string[]>()
        for (const call of calls.slice(looked)) groups.set(call.at, [...(groups.get(call.at) ?? []), call.operation])
        looked = calls.length
        return [...groups.values()].map((group) => group.join(' + '))
      },
    }
    return gateway
  }

  /** What a fresh gateway shows. */
  async shown(at: AggregateAddress, plan: KeyedPlan): Promise<readonly (readonly (string | null)[])[]> {
    return (await this.time.run(this.gateway(`reader${++this.#ids}`).run(plan, at))).rows
  }
}

export async function code(work: Promise<unknown>): Promise<string> {
  return work.then(
    () => 'resolved',
    (error: SwitchbackError) => error.code ?? (error as unknown as { sqlstate?: string }).sqlstate ?? String(error),
  )
}
