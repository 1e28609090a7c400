// Promises: a LeaderControl in memory that keeps the rules of the real one (epochs rise, tenure changes at commit only), for tests of
// the flip's sequence.
import type { FlipObservation } from '../../src/flip/precheck.ts'
import type { FlipRecord, FlipStep, LeaderControl, LeaseRow, WaitingWriter } from '../../src/model/control.ts'
import { SwitchbackError } from '../../src/model/errors.ts'
import { lsnOf, type Owner, type SlotId } from '../../src/model/ids.ts'
import { type Ownership, RoutingView, type TenureRecord } from '../../src/model/ownership.ts'
import { Tenures } from '../../src/model/tenures.ts'

export interface FakeWorld {
  epoch: number
  readonly rows: Map<SlotId, Ownership>
  readonly history: TenureRecord[]
  readonly flips: FlipRecord[]
  leases: LeaseRow[]
  writers: WaitingWriter[]
  readonly calls: string[]
  readonly debts: SlotId[]
  stale: boolean
}

export function fakeWorld(owner: Owner = 'source'): FakeWorld {
  const rows = new Map<SlotId, Ownership>()
  const history: TenureRecord[] = []
  for (let slot = 0; slot < 8; slot++) {
    rows.set(slot, { slot, owner, phase: 'steady', readOnly: false, epoch: 1, tenure: 1, base: 10n })
    history.push({ slot, tenure: 1, owner, base: 10n, firstLsn: lsnOf(100n) })
  }
  return { epoch: 1, rows, history, flips: [], leases: [], writers: [], calls: [], debts: [], stale: false }
}

export function lease(name: string, more: Partial<LeaseRow> = {}): LeaseRow {
  return { lease: name, gateway: name, renewals: 1, ackedEpoch: 0, over: false, nextSequences: new Map(), excused: [], ...more }
}

export function fakeControl(world: FakeWorld): LeaderControl {
  const act = (name: string) => {
    if (world.stale) throw new SwitchbackError('TOKEN_STALE', { token: 1 })
    world.calls.push(name)
  }
  const change = (flip: FlipRecord, state: FlipRecord['state'], each: (row: Ownership, epoch: number) => Ownership): FlipRecord => {
    const epoch = ++world.epoch
    for (const slot of flip.slots) world.rows.set(slot, each(world.rows.get(slot)!, epoch))
    return replace(world, { ...flip, state, epoch })
  }
  return {
    token: 1,
    view: async () => new RoutingView({ epoch: world.epoch, bindingEpoch: 1, rows: world.rows.values(), pins: [] }),
    tenures: async () => new Tenures(world.history),
    leases: async () => world.leases,
    async endLeases(seen) {
      const ended = world.leases.filter((row) => seen.some((s) => s.lease === row.lease && s.renewals === row.renewals))
      world.leases = world.leases.map((row) => (ended.includes(row) ? { ...row, over: true } : row))
      return ended.map((row) => row.lease)
    },
    bind: async () => world.epoch,
    openFlips: async () => world.flips.filter((flip) => !['routed', 'cancelled'].includes(flip.state)),
    async writeIntent(flip) {
      act('intent')
      const record: FlipRecord = {
        ...flip,
        id: `f${world.flips.length + 1}`,
        state: 'intent',
        epoch: world.epoch,
        startedAt: '',
        steps: [],
      }
      world.flips.push(record)
      return record
    },
    async setPhase(flip, phase) {
      act(phase)
      return change(flip, phase, (row, epoch) => ({ ...row, phase, epoch }))
    },
    waitSet: async () => world.writers,
    stillThere: async (writers) => writers.filter((writer) => world.writers.includes(writer)),
    async writeMarker(flip) {
      act('marker')
      return `${flip.id}@${flip.epoch}`
    },
    async commitFlip(flip, { newBase, held }) {
      act('commit')
      return change(flip, 'committed', (row, epoch) => {
        world.history.push({ slot: row.slot, tenure: epoch, owner: flip.to, base: newBase, firstLsn: lsnOf(500n) })
        return { ...row, owner: flip.to, phase: held ? 'fenced' : 'steady', epoch, tenure: epoch, base: newBase }
      })
    },
    async releaseFlip(flip) {
      if (flip.slots.every((slot) => world.rows.get(slot)!.phase !== 'fenced')) return flip
      act('release')
      return change(flip, 'committed', (row, epoch) => ({ ...row, phase: 'steady', epoch }))
    },
    async commitInDebt(flip, bases) {
      world.debts.push(...flip.slots)
      return this.commitFlip(flip, bases)
    },
    async splitFlip(flip, go) {
      act('split')
      const rest: FlipRecord = { ...flip, id: `${flip.id}-rest`, slots: flip.slots.filter((slot) => !go.includes(slot)) }
      world.flips.push(rest)
      return { go: replace(world, { ...flip, slots: go }), rest }
    },
    debts: async () => world.debts.map((slot) => ({ slot, flip: '', tenure: 1 })),
    async settleDebts(debts) {
      for (const { slot } of debts) world.debts.splice(world.debts.indexOf(slot), 1)
    },
    async cancelFlip(flip) {
      act('cancel')
      return change(flip, 'cancelled', (row, epoch) => ({ ...row, phase: 'steady', epoch }))
    },
    async finishFlip(flip, steps: readonly FlipStep[]) {
      act('finish')
      return replace(world, { ...flip, state: 'routed', steps })
    },
    setReadOnly: async () => world.epoch,
    highestApplied: async () => 7,
    currentWalLsn: async () => lsnOf(400n),
    poison: async () => [],
    close: async () => undefined,
  }
}

function replace(world: FakeWorld, flip: FlipRecord): FlipRecord {
  world.flips[world.flips.findIndex((other) => other.id === flip.id)] = flip
  return flip
}

/** Nothing holds a flip up. */
export const READY: Omit<FlipObservation, 'rows' | 'leases' | 'epoch'> = {
  poison: [],
  forwardLagMs: 5,
  backfillDone: true,
  forwardStopped: null,
  guardProblems: [],
  catalogUnchanged: true,
  wayBackProven: true,
  openFlips: [],
  debts: [],
  gates: [],
  standbysNotNamed: [],
}
