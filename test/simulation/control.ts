// Promises: the control schema's functions over the model of PostgreSQL, for a gateway and for a leader, with the outcomes that store/
// has: refused by name, or unknown and safe to send again.
import type { watchStandbys } from '../../src/app/standby-watch.ts'
import { backoffMs } from '../../src/lib/backoff.ts'
import type { FlipRecord, FlipState, GatewayControl, LeaderControl, Renewal } from '../../src/model/control.ts'
import { SwitchbackError } from '../../src/model/errors.ts'
import { type Lsn, NO_LSN, type SlotId } from '../../src/model/ids.ts'
import { RoutingView } from '../../src/model/ownership.ts'
import { Tenures } from '../../src/model/tenures.ts'
import type { Host, Kernel } from './kernel.ts'
import type { Postgres } from './postgres.ts'
import { type Backend, type Lease, Mutex, PgError } from './postgres-parts.ts'
import { ControlSession } from './sessions.ts'
import type { World } from './world.ts'

const ROWS_BACKOFF = { firstMs: 2, capMs: 30 }

export function viewOf(postgres: Postgres): RoutingView {
  const rows = [...postgres.ownership.keys()].map((slot) => postgres.owned(slot))
  return new RoutingView({ epoch: postgres.epoch, bindingEpoch: 1, rows, pins: [] })
}

function refusal(error: unknown): never {
  if (!(error instanceof PgError)) throw error
  switch (error.code) {
    case 'TOKEN_STALE':
      throw new SwitchbackError('TOKEN_STALE', { token: 0 }, error)
    case 'LEASE_OVER':
      throw new SwitchbackError('LEASE_OVER', { lease: '' }, error)
    case 'FLIP_STATE':
      throw new SwitchbackError('FLIP_STATE', { flip: '', state: error.message, act: '' }, error)
    case 'FLIP_DEADLINE':
      throw new SwitchbackError('FLIP_DEADLINE', { flip: error.message }, error)
    case 'FLIP_OVERLAPS':
      throw new SwitchbackError('FLIP_OVERLAPS', { flip: '', state: '' }, error)
    default:
      throw error
  }
}

/** A notification reaches a host that is connected, if the network lets it. */
function listen(kernel: Kernel, host: Host, signal: { next(): Promise<void> }, call: () => void): () => void {
  let off = false
  const loop = async () => {
    while (!off && !host.dead) {
      await signal.next()
      const delayMs = kernel.delay('postgres', host.name)
      if (Number.isFinite(delayMs)) kernel.on(host, delayMs, () => !off && call())
    }
  }
  void loop()
  return () => {
    off = true
  }
}

export function gatewayControl(kernel: Kernel, postgres: Postgres, host: Host): GatewayControl {
  const session = new ControlSession(kernel, postgres, host, 'gateway', { mends: true })
  const query = <T>(work: (backend: Backend) => Promise<T>) => session.query(work).catch(refusal)
  return {
    openLease: (gateway) =>
      query(async (backend) => {
        await postgres.step(backend)
        const id = `${gateway}#${kernel.nextId()}`
        const lease: Lease = {
          lease: id,
          gateway,
          renewals: 0,
          ackedEpoch: 0,
          over: false,
          nextSequences: new Map(),
          excused: [],
          locked: new Mutex(),
        }
        postgres.leases.set(id, lease)
        postgres.leasesChanged.notify()
        return id
      }),
    renew: (lease) =>
      query((backend) =>
        postgres.onLease<Renewal | 'over'>(backend, lease, async (row) => {
          if (row.over) return { value: 'over', change: null }
          // The lease row first, then the view by a later snapshot.
          await postgres.step(backend)
          const view = viewOf(postgres)
          postgres.onRenewed(lease)
          return { value: { view, rightsDigest: 'r', catalogDigest: 'c' }, change: { renewals: row.renewals + 1 } }
        }),
      ),
    look: () =>
      query(async (backend) => {
        await postgres.step(backend)
        return viewOf(postgres)
      }),
    ack: (ack) =>
      query((backend) =>
        postgres.onLease(backend, ack.lease, async (row) => {
          if (row.over) throw new PgError('LEASE_OVER', 'the lease is over')
          postgres.leasesChanged.notify()
          kernel.told(host.name, () => `acks epoch ${ack.epoch} under ${ack.lease}, excusing ${ack.excused.length}`)
          const newer = ack.epoch >= row.ackedEpoch
          return {
            value: undefined,
            change: {
              ackedEpoch: Math.max(row.ackedEpoch, ack.epoch),
              ...(newer ? { nextSequences: ack.nextSequences, excused: ack.excused } : {}),
            },
          }
        }),
      ),
    ackPartly: (lease, partial) =>
      query((backend) =>
        postgres.onLease(backend, lease, async (row) => {
          postgres.leasesChanged.notify()
          const newer = !row.over && (row.partial?.epoch ?? 0) <= partial.epoch
          return { value: undefined, change: newer ? { partial } : null }
        }),
      ),
    parked: async () => undefined,
    release: (lease) => query((backend) => postgres.onLease(backend, lease, async () => ({ value: undefined, change: { over: true } }))),
    onWake: (call) => listen(kernel, host, postgres.woken, call),
  }
}

interface Move {
  /** Sent again after a lost reply. */
  readonly again: readonly FlipState[]
  readonly from: readonly FlipState[]
  /** Before the commit record. */
  readonly before?: (slots: readonly SlotId[]) => void
  readonly owned: (slot: SlotId, taken: number) => void
  readonly wakes: boolean
}

export interface SimulatedLeader extends LeaderControl, StandbyControl {
  readonly session: ControlSession
  onLeaseChange(call: () => void): () => void
}

type StandbyControl = Parameters<typeof watchStandbys>[0]['control']

export function leaderControl(
  { kernel, postgres, standby }: Pick<World, 'kernel' | 'postgres' | 'standby'>,
  host: Host,
  token: number,
): SimulatedLeader {
  const session = new ControlSession(kernel, postgres, host, `leader ${token} control`, { mends: true })
  const query = <T>(work: (backend: Backend) => Promise<T>) => session.query(work).catch(refusal)
  const act = <T>(body: Parameters<typeof postgres.act<T>>[2]) => query((backend) => postgres.act(backend, token, body))
  const read = <T>(look: () => T) =>
    query(async (backend) => {
      await postgres.step(backend)
      return look()
    })
  const clock = kernel.clock(host)
  /** Never waits while it holds a row. */
  const untilFree = async <T>(deadlineMs: number, work: () => Promise<T>, signal?: AbortSignal): Promise<T> => {
    const deadline = clock.monotonicMs() + deadlineMs
    for (let attempt = 0; ; attempt++) {
      try {
        return await work()
      } catch (error) {
        if (!(error instanceof PgError) || error.code !== '55P03') throw error
        if (signal?.aborted || clock.monotonicMs() > deadline) throw new SwitchbackError('ROWS_HELD', { holders: [] }, error)
      }
      await clock.sleep(backoffMs(attempt, ROWS_BACKOFF, kernel.random), signal)
    }
  }
  const flipOf = (id: string) => postgres.flips.find((flip) => flip.id === id)!
  const replace = (flip: FlipRecord) => {
    postgres.flips[postgres.flips.findIndex(({ id }) => id === flip.id)] = flip
  }
  const move = (id: string, state: FlipState, how: Move) =>
    act<FlipRecord>((stage) => {
      const flip = flipOf(id)
      if (how.again.includes(flip.state)) return { value: flip }
      if (!how.from.includes(flip.state)) throw new PgError('FLIP_STATE', `${flip.state} -> ${state}`)
      how.before?.(flip.slots)
      postgres.lockSlots(flip.slots, stage)
      const taken = postgres.epoch + 1
      const next = { ...flip, state, epoch: taken }
      stage(() => {
        postgres.epoch = taken
        for (const slot of flip.slots) how.owned(slot, taken)
        replace(next)
        kernel.told('flip', () => `${id} is ${state} at epoch ${taken}`)
        postgres.journaledAt.set(`${id} ${state}`, postgres.insertLsn)
        if (how.wakes) postgres.woken.notify()
      })
      return { value: next }
    })
  const journal = (change: () => unknown) =>
    act<void>((stage) => {
      stage(() => void change())
      return { value: undefined }
    })
  const mustBeOnStandby = ({ id }: FlipRecord, state: FlipState, what: string) =>
    standby?.mustHave(postgres.journaledAt.get(`${id} ${state}`) ?? NO_LSN, () => `${id} ${what}, and that it is ${state} is not there`)
  const commit = (flip: FlipRecord, { newBase, held }: { readonly newBase: bigint; readonly held: boolean }, inDebt: boolean) =>
    untilFree(flip.deadlineMs, () => {
      let firstLsn: Lsn = NO_LSN
      return move(flip.id, 'committed', {
        again: ['committed', 'routed'],
        from: flip.to === 'source' ? ['parking', 'fenced'] : ['fenced'],
        before: (slots) => {
          if (flip.to === 'target' && !postgres.marked.has(flip.id)) throw new PgError('FLIP_STATE', 'no marker')
          if (kernel.now > postgres.begun.get(flip.id)! + flipOf(flip.id).deadlineMs) throw new PgError('FLIP_DEADLINE', flip.id)
          // Before the commit record and after the marker.
          firstLsn = postgres.insertLsn
          mustBeOnStandby(flip, flip.to === 'target' ? 'fenced' : 'parking', 'commits')
          for (const slot of slots)
            if (postgres.owned(slot).base >= newBase) kernel.violated('INV-4', `the base of slot ${slot} does not rise`)
        },
        owned: (slot, epoch) => {
          postgres.own(slot, { owner: flip.to, phase: held ? 'fenced' : 'steady', epoch, tenure: epoch, base: newBase })
          if (inDebt) postgres.debts.set(slot, { flip: flip.id, tenure: epoch })
          postgres.tenures.push({ slot, tenure: epoch, owner: flip.to, base: newBase, firstLsn })
          if (!held) standby?.mustHave(postgres.insertLsn, () => `${flip.id} is committed and routes at once`)
        },
        wakes: true,
      })
    })
  return {
    session,
    token,
    view: () => read(() => viewOf(postgres)),
    tenures: () => read(() => new Tenures(postgres.tenures)),
    leases: () => read(() => [...postgres.leases.values()]),
    endLeases: (seen) =>
      query(async (backend) => {
        for (const { lease, renewals } of seen) {
          await postgres.onLease(backend, lease, async (row) => {
            if (token !== postgres.token) throw new PgError('TOKEN_STALE', '')
            const same = row.renewals === renewals && !row.over
            if (same) kernel.told('leader', () => `calls lease ${lease} over`)
            return { value: undefined, change: same ? { over: true } : null }
          })
        }
        return seen.filter(({ lease }) => postgres.leases.get(lease)!.over).map(({ lease }) => lease)
      }),
    bind: async () => 1,
    openFlips: () => read(() => postgres.flips.filter(({ state }) => state !== 'cancelled' && state !== 'routed')),
    writeIntent: ({ to, slots, deadlineMs }) =>
      act((stage) => {
        const open = postgres.flips.find(
          (flip) => flip.state !== 'cancelled' && flip.state !== 'routed' && flip.slots.some((slot) => slots.includes(slot)),
        )
        if (open !== undefined) {
          if (open.state === 'intent' && open.to === to && String(open.slots) === String(slots)) return { value: open }
          throw new PgError('FLIP_OVERLAPS', open.id)
        }
        if (slots.some((slot) => postgres.owned(slot).owner === to || postgres.owned(slot).phase !== 'steady'))
          throw new PgError('FLIP_STATE', 'not steady')
        const flip: FlipRecord = {
          id: `f${kernel.nextId()}`,
          to,
          slots,
          state: 'intent',
          epoch: postgres.epoch,
          deadlineMs,
          startedAt: '',
          steps: [],
        }
        postgres.begun.set(flip.id, kernel.now)
        stage(() => void postgres.flips.push(flip))
        return { value: flip }
      }),
    setPhase: (flip, phase, signal) =>
      untilFree(
        flip.deadlineMs,
        () =>
          move(flip.id, phase, {
            again: [phase],
            from: phase === 'parking' ? ['intent'] : ['intent', 'parking'],
            owned: (slot, epoch) => postgres.own(slot, { phase, epoch }),
            wakes: phase === 'parking',
          }),
        signal,
      ),
    waitSet: (excused) =>
      read(() =>
        postgres
          .writers()
          .filter(({ pid, virtualTransaction }) => !excused.some((e) => e.pid === pid && e.virtualTransaction === virtualTransaction)),
      ),
    stillThere: (writers) =>
      read(() => {
        const now = new Set(postgres.writers().map(({ virtualTransaction }) => virtualTransaction))
        return writers.filter(({ virtualTransaction }) => now.has(virtualTransaction))
      }),
    writeMarker: (flip) =>
      act((stage) => {
        const { state, epoch } = flipOf(flip.id)
        if (state !== 'fenced') throw new PgError('FLIP_STATE', `a marker in ${state}`)
        stage(() => void postgres.marked.add(flip.id))
        const content = `flip:${flip.id}:${epoch}`
        return { value: content, changes: [{ kind: 'message', prefix: 'switchback', content }] }
      }),
    commitFlip: (flip, bases) => commit(flip, bases, false),
    commitInDebt: (flip, bases) => commit(flip, bases, true),
    releaseFlip: (flip) =>
      untilFree(2_000, () =>
        act<FlipRecord>((stage) => {
          const now = flipOf(flip.id)
          if (now.state !== 'committed' && now.state !== 'routed') throw new PgError('FLIP_STATE', `a release in ${now.state}`)
          // Sent again.
          if (now.state === 'routed' || now.slots.every((slot) => postgres.owned(slot).phase !== 'fenced')) return { value: now }
          postgres.lockSlots(now.slots, stage)
          mustBeOnStandby(now, 'committed', 'routes')
          const taken = postgres.epoch + 1
          const next = { ...now, epoch: taken }
          stage(() => {
            postgres.epoch = taken
            for (const slot of now.slots) postgres.own(slot, { phase: 'steady', epoch: taken })
            replace(next)
            kernel.told('flip', () => `${now.id} is released at epoch ${taken}`)
            postgres.woken.notify()
          })
          return { value: next }
        }),
      ),
    standbys: () => read(() => ({ flushedHere: postgres.insertLsn, rows: standby?.rows() ?? [] })),
    struck: () => read(() => [...postgres.struck].map((name) => ({ name, at: '', silentMs: 0 }))),
    strikeOff: (name) => journal(() => postgres.struck.add(name)),
    takeBack: (name) =>
      journal(() => {
        postgres.struck.delete(name)
        for (const flip of postgres.flips) {
          const waits = flip.slots.some((slot) => postgres.owned(slot).phase !== 'steady')
          if (flip.state === 'routed' || (flip.state === 'committed' && !waits)) mustBeOnStandby(flip, 'committed', 'has routed')
        }
      }),
    splitFlip: (flip, go) =>
      act((stage) => {
        const now = flipOf(flip.id)
        const restId = `${flip.id}-rest`
        const known = postgres.flips.find(({ id }) => id === restId)
        if (known !== undefined && String(now.slots) === String(go)) return { value: { go: now, rest: known } }
        const staying = now.slots.filter((slot) => !go.includes(slot))
        const parts = go.length > 0 && staying.length > 0 && go.every((slot) => now.slots.includes(slot))
        if (now.state !== 'parking' || now.to !== 'source' || !parts) throw new PgError('FLIP_STATE', `a split in ${now.state}`)
        const split = { go: { ...now, slots: go }, rest: { ...now, id: restId, slots: staying } }
        stage(() => {
          replace(split.go)
          postgres.flips.push(split.rest)
          postgres.begun.set(restId, kernel.now)
          kernel.told('flip', () => `${flip.id} goes on with ${go}, the rest stays parked`)
        })
        return { value: split }
      }),
    debts: () => read(() => [...postgres.debts].map(([slot, debt]) => ({ slot, ...debt }))),
    settleDebts: (debts) =>
      act((stage) => {
        stage(() => {
          for (const { slot, tenure } of debts) if (postgres.debts.get(slot)?.tenure === tenure) postgres.debts.delete(slot)
        })
        return { value: undefined }
      }),
    cancelFlip: (flip) =>
      untilFree(2_000, () =>
        move(flip.id, 'cancelled', {
          again: ['cancelled'],
          from: ['intent', 'parking', 'fenced'],
          owned: (slot, epoch) => postgres.own(slot, { phase: 'steady', epoch }),
          wakes: true,
        }),
      ),
    finishFlip: (flip, steps) =>
      act((stage) => {
        const now = flipOf(flip.id)
        if (now.state !== 'committed' && now.state !== 'routed' && now.state !== 'cancelled')
          throw new PgError('FLIP_STATE', `a finish in ${now.state}`)
        if (now.state === 'committed' && now.slots.some((slot) => postgres.owned(slot).phase !== 'steady'))
          throw new PgError('FLIP_STATE', 'it is still held')
        const next: FlipRecord = { ...now, state: now.state === 'committed' ? 'routed' : now.state, steps }
        stage(() => replace(next))
        return { value: next }
      }),
    setReadOnly: (slots, readOnly) =>
      untilFree(2_000, () =>
        act<number>((stage) => {
          postgres.lockSlots(slots, stage)
          const changed = slots.filter((slot) => postgres.owned(slot).readOnly !== readOnly)
          if (changed.length === 0) return { value: postgres.epoch }
          const taken = postgres.epoch + 1
          stage(() => {
            postgres.epoch = taken
            for (const slot of changed) {
              postgres.own(slot, { readOnly, epoch: taken })
              postgres.closed.delete(slot)
            }
            kernel.told('control', () => `slots ${changed} ${readOnly ? 'become read-only' : 'take writes'} at epoch ${taken}`)
            postgres.woken.notify()
          })
          return { value: taken }
        }),
      ),
    highestApplied: (slots) =>
      read(() => {
        const asked = new Set(slots)
        let highest = 0
        for (const { slot, tenure, version } of postgres.applied.values())
          if (asked.has(slot) && tenure === postgres.owned(slot).tenure) highest = Math.max(highest, version)
        return highest
      }),
    currentWalLsn: () => read(() => postgres.insertLsn),
    poison: async () => [],
    close: async () => session.close(),
    onLeaseChange: (call) => listen(kernel, host, postgres.leasesChanged, call),
  }
}
