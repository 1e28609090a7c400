// Promises: a command that writes on the target does so as a gateway would: under a lease of its own, which it renews, at the newest
// view, and it acks a fence only when nothing of its own is in flight (protocols.md, Leases; The flip, 3).
import { randomUUID } from 'node:crypto'
import { createExecutor } from '../commit/executor.ts'
import { startLeaseHolder } from '../gateway/lease-holder.ts'
import { systemClock } from '../lib/clock.ts'
import { Signal } from '../lib/latch.ts'
import { systemRandom } from '../lib/prng.ts'
import { Turns } from '../lib/turns.ts'
import { SwitchbackError } from '../model/errors.ts'
import type { FlightCounter, LeaseHandle, TargetExecutor } from '../model/executor.ts'
import type { RoutingView } from '../model/ownership.ts'
import type { Target } from '../model/target.ts'
import { createGatewayControl } from '../store/gateway-control.ts'
import { controlConnector } from '../store/session.ts'
import { leaseSettings } from './load-config.ts'
import type { Workspace } from './workspace.ts'

const WORK_WAITING_MAX = 1_000

export interface LeasedExecutor {
  /** Runs one piece of work at the newest view; acks wait for it. */
  run<T>(
    work: (at: { readonly lease: LeaseHandle; readonly view: RoutingView; readonly executor: TargetExecutor }) => Promise<T>,
  ): Promise<T>
  close(): Promise<void>
}

export function openLeasedExecutor(workspace: Workspace, target: Target, name: string): LeasedExecutor {
  const control = createGatewayControl({ connect: controlConnector({ connectionString: workspace.url }) })
  const changed = new Signal()
  const stop = new AbortController()
  let held: { readonly lease: LeaseHandle; readonly view: RoutingView } | null = null
  let inFlight = 0
  let ackedEpoch = 0
  const turns = new Turns({
    waitingMax: WORK_WAITING_MAX,
    full: () =>
      new SwitchbackError('CONTROL_UNREACHABLE', { reason: `more than ${WORK_WAITING_MAX} pieces of work wait (WORK_WAITING_MAX)` }),
  })
  const flights: FlightCounter = {
    enter: () => void inFlight++,
    leave: () => {
      inFlight--
      changed.notify()
    },
  }
  const executor = openExecutor(workspace, target, flights)
  const ack = async () => {
    while (inFlight > 0 && !stop.signal.aborted) await changed.next(stop.signal)
    if (held === null || stop.signal.aborted || !held.lease.holds() || held.view.epoch <= ackedEpoch) return
    const { lease, view } = held
    await control.ack({ lease: lease.id, epoch: view.epoch, nextSequences: executor.nextSequences(lease.id), excused: [] })
    ackedEpoch = view.epoch
  }
  const viewed = (view: RoutingView, lease: LeaseHandle) => {
    if (held?.lease.id !== lease.id) ackedEpoch = 0
    held = { lease, view }
    changed.notify()
    void turns.take(ack).catch(() => undefined) // sent again at the next renewal
  }
  const times = leaseSettings(workspace.config)
  const holder = startLeaseHolder({
    control,
    gateway: name,
    clock: systemClock,
    random: systemRandom,
    times,
    events: {
      renewed: ({ view }, lease) => viewed(view, lease),
      viewed,
      lapsed() {
        held = null
      },
      failed: () => undefined, // tried again; work that needs the lease fails by name
    },
  })
  return {
    async run(work) {
      const deadline = AbortSignal.timeout(times.lengthMs)
      while (held === null && !deadline.aborted) await changed.next(deadline)
      return turns.take(() => {
        if (held === null) throw new SwitchbackError('NO_LEASE')
        return work({ ...held, executor })
      })
    },
    async close() {
      await turns.take(() => Promise.resolve())
      stop.abort()
      await holder.close()
      await control.close()
    },
  }
}

function openExecutor({ mapping }: Workspace, target: Target, flights: FlightCounter): TargetExecutor {
  return createExecutor({
    target,
    mapping,
    clock: systemClock,
    random: systemRandom,
    flights,
    settled: { settled() {} }, // its outboxes are polled
    txnIds: randomUUID,
  })
}
