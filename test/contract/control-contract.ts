// Promises: the one suite that every control store passes (model/control.ts), PostgreSQL's and the simulator's model of it: leases and acks,
// the journal of flips with its epochs and tenures, debts, read-only, and tokens.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { FenceAck, FlipRecord, GatewayControl, LeaderControl, LeaseRow, PartialAck, Renewal } from '../../src/model/control.ts'
import type { Owner, SlotId } from '../../src/model/ids.ts'
import { eventually } from '../support/eventually.ts'

export interface ControlSubject extends AsyncDisposable {
  /** Steady, PostgreSQL's, three. */
  readonly slots: readonly [SlotId, SlotId, SlotId]
  readonly leader: LeaderControl
  gateway(): GatewayControl
  /** Another controller leads from now on. */
  overtaken(): Promise<void>
  /** Lets so much time pass. */
  passed(ms: number): Promise<void>
}

export type OpenControl = () => Promise<ControlSubject>

const DEADLINE_MS = 20_000

export function controlContract(name: string, open: OpenControl): void {
  leaseContract(name, open)
  ackContract(name, open)
  flipContract(name, open)
  commitContract(name, open)
  debtContract(name, open)
  leaderContract(name, open)
}

const ackOf = (lease: string, epoch: number, more: Partial<FenceAck> = {}): FenceAck => ({
  lease,
  epoch,
  nextSequences: new Map(),
  excused: [],
  ...more,
})

const partialOf = (epoch: number, busy: readonly SlotId[] = []): PartialAck => ({
  epoch,
  busy: new Set(busy),
  nextSequences: new Map(),
  undecided: new Map(),
})

function plain({ lease, gateway, renewals, ackedEpoch, over, nextSequences, excused, partial }: LeaseRow) {
  return { lease, gateway, renewals, ackedEpoch, over, nextSequences, excused, partial: partial ?? null }
}

async function renewed(renewal: Promise<Renewal | 'over'>): Promise<Renewal> {
  const result = await renewal
  assert.notEqual(result, 'over')
  return result as Renewal
}

/** What the journal says, but for when it began. */
const journaled = ({ startedAt: _, ...flip }: FlipRecord) => flip

async function fenced(leader: LeaderControl, slots: readonly SlotId[], to: Owner = 'target'): Promise<FlipRecord> {
  const intent = await leader.writeIntent({ to, slots, deadlineMs: DEADLINE_MS })
  return leader.setPhase(await leader.setPhase(intent, 'parking'), 'fenced')
}

const baseAbove = async (leader: LeaderControl, slots: readonly SlotId[]) => {
  const view = await leader.view()
  const bases = slots.map((slot) => view.ownership(slot)!.base).sort((a, b) => (a < b ? 1 : -1))
  return bases[0]! + 1n
}

async function committed(leader: LeaderControl, slots: readonly SlotId[], { held = false } = {}): Promise<FlipRecord> {
  const flip = await fenced(leader, slots)
  await leader.writeMarker(flip)
  return leader.commitFlip(flip, { newBase: await baseAbove(leader, slots), held })
}

const routed = async (leader: LeaderControl, slots: readonly SlotId[]) => leader.finishFlip(await committed(leader, slots), [])

function leaseContract(name: string, open: OpenControl): void {
  test(`${name}: each opening is a lease of its own, and each renewal of it counts and brings the view`, async () => {
    await using subject = await open()
    const { leader, slots } = subject
    const gateway = subject.gateway()
    const [first, second] = [await gateway.openLease('g1'), await gateway.openLease('g1')]
    assert.notEqual(first, second)
    const seen = (await renewed(gateway.renew(first, null))).view
    const epoch = await leader.setReadOnly([slots[0]], true)
    const now = (await renewed(gateway.renew(first, seen))).view
    assert.deepEqual([now.epoch, now.ownership(slots[0])!.readOnly, now.ownership(slots[1])!.readOnly], [epoch, true, false])
    assert.deepEqual(now.ownership(slots[0]), (await leader.view()).ownership(slots[0]))
    const rows = (await leader.leases()).map(plain)
    const none = { gateway: 'g1', ackedEpoch: 0, over: false, nextSequences: new Map(), excused: [], partial: null }
    assert.deepEqual(rows, [
      { lease: first, renewals: 2, ...none },
      { lease: second, renewals: 0, ...none },
    ])
  })

  test(`${name}: a look brings what changed and renews nothing`, async () => {
    await using subject = await open()
    const { leader, slots } = subject
    const gateway = subject.gateway()
    const lease = await gateway.openLease('g1')
    const { view } = await renewed(gateway.renew(lease, null))
    const flip = await fenced(leader, [slots[0]])
    const looked = await gateway.look(view)
    assert.deepEqual([looked.epoch, looked.ownership(slots[0])!.phase], [flip.epoch, 'fenced'])
    assert.equal((await leader.leases())[0]!.renewals, 1)
  })

  test(`${name}: a lease that was called over is never renewed, nor acks; one renewed meanwhile is not called over (INV-8)`, async () => {
    await using subject = await open()
    const { leader } = subject
    const gateway = subject.gateway()
    const [dead, alive] = [await gateway.openLease('dead'), await gateway.openLease('alive')]
    const seen = (await leader.leases()).map(({ lease, renewals }) => ({ lease, renewals }))
    await gateway.renew(alive, null)
    assert.deepEqual(await leader.endLeases(seen), [dead])
    assert.deepEqual(await leader.endLeases(seen), [dead], 'sent again')
    assert.equal(await gateway.renew(dead, null), 'over')
    await assert.rejects(gateway.ack(ackOf(dead, 1)), { code: 'LEASE_OVER' })
    await renewed(gateway.renew(alive, null))
    await gateway.release(alive)
    await gateway.release(alive)
    assert.equal(await gateway.renew(alive, null), 'over')
    assert.deepEqual(
      (await leader.leases()).map(({ over, renewals }) => ({ over, renewals })),
      [
        { over: true, renewals: 0 },
        { over: true, renewals: 2 },
      ],
    )
  })
}

function ackContract(name: string, open: OpenControl): void {
  const excused = [{ pid: 7, backendStart: '2026-01-01 00:00:00+00', virtualTransaction: '3/14' }]
  const sequences = new Map([
    [0, 5],
    [63, 1],
  ])

  test(`${name}: an ack carries what is of its epoch; an older one that comes late changes nothing, the same again everything`, async () => {
    await using subject = await open()
    const { leader } = subject
    const gateway = subject.gateway()
    const lease = await gateway.openLease('g1')
    const said = async () => {
      const { ackedEpoch, nextSequences, excused: left } = (await leader.leases())[0]!
      return { ackedEpoch, nextSequences, excused: left }
    }
    await gateway.ack(ackOf(lease, 9, { nextSequences: sequences, excused }))
    await gateway.ack(ackOf(lease, 4))
    assert.deepEqual(await said(), { ackedEpoch: 9, nextSequences: sequences, excused })
    await gateway.ack(ackOf(lease, 9))
    assert.deepEqual(await said(), { ackedEpoch: 9, nextSequences: new Map(), excused: [] })
  })

  test(`${name}: what a gateway says before it can ack is no ack; an older word that comes late changes nothing, nor one of a lease that is over`, async () => {
    await using subject = await open()
    const { leader, slots } = subject
    const gateway = subject.gateway()
    const lease = await gateway.openLease('g1')
    const said = async () => (await leader.leases()).map(({ ackedEpoch, partial }) => ({ ackedEpoch, partial }))
    const word = { ...partialOf(7, [slots[1]]), nextSequences: sequences, undecided: new Map([[0, new Map([[4, slots[0]]])]]) }
    await gateway.ackPartly(lease, word)
    await gateway.ackPartly(lease, partialOf(6))
    assert.deepEqual(await said(), [{ ackedEpoch: 0, partial: word }])
    await gateway.release(lease)
    await gateway.ackPartly(lease, partialOf(8))
    assert.deepEqual(await said(), [{ ackedEpoch: 0, partial: word }])
  })

  test(`${name}: how long statements were parked may be told of flips that nobody knows, and twice`, async () => {
    await using subject = await open()
    const gateway = subject.gateway()
    const lease = await gateway.openLease('g1')
    const report = { lease, flips: [{ epoch: 99, statements: 3, p50Ms: 1, p99Ms: 2, maxMs: 3 }] }
    await gateway.parked(report)
    await gateway.parked(report)
  })

  test(`${name}: a change of ownership wakes gateways`, async () => {
    await using subject = await open()
    const gateway = subject.gateway()
    await gateway.openLease('g1')
    let wakes = 0
    const off = gateway.onWake(() => wakes++)
    const before = wakes
    await subject.leader.setReadOnly([subject.slots[0]], true)
    await eventually(async () => {
      await subject.passed(5)
      return wakes > before
    }, 'the gateway is woken')
    off()
  })
}

function flipContract(name: string, open: OpenControl): void {
  test(`${name}: an intent that is sent again is the same; one over slots of an open flip, or not steady on the other side, is refused`, async () => {
    await using subject = await open()
    const { leader, slots } = subject
    const [a, b, c] = slots
    const wanted = { to: 'target', slots: [a, b], deadlineMs: DEADLINE_MS } as const
    const intent = await leader.writeIntent(wanted)
    assert.deepEqual(journaled(intent), {
      id: intent.id,
      to: 'target',
      slots: [a, b].sort((x, y) => x - y),
      state: 'intent',
      epoch: (await leader.view()).epoch,
      deadlineMs: DEADLINE_MS,
      steps: [],
    })
    assert.deepEqual(await leader.writeIntent(wanted), intent)
    await assert.rejects(leader.writeIntent({ ...wanted, slots: [b, c] }), { code: 'FLIP_OVERLAPS' })
    await assert.rejects(leader.writeIntent({ ...wanted, slots: [c], to: 'source' }), { code: 'FLIP_STATE' })
    const other = await leader.writeIntent({ ...wanted, slots: [c] })
    assert.deepEqual(await leader.openFlips(), [intent, other], 'the oldest first')
  })

  test(`${name}: each phase takes the next epoch and leaves the tenure, and sent again it takes none`, async () => {
    await using subject = await open()
    const { leader, slots } = subject
    const [slot] = slots
    const row = async () => (await leader.view()).ownership(slot)!
    const before = await row()
    const { epoch } = await leader.view()
    const intent = await leader.writeIntent({ to: 'target', slots: [slot], deadlineMs: DEADLINE_MS })
    await assert.rejects(leader.finishFlip(intent, []), { code: 'FLIP_STATE' })
    await assert.rejects(leader.writeMarker(intent), { code: 'FLIP_STATE' })
    const parked = await leader.setPhase(intent, 'parking')
    assert.deepEqual(await row(), { ...before, phase: 'parking', epoch: epoch + 1 })
    const fence = await leader.setPhase(parked, 'fenced')
    assert.deepEqual(await row(), { ...before, phase: 'fenced', epoch: epoch + 2 })
    assert.deepEqual([await leader.setPhase(parked, 'fenced'), (await leader.view()).epoch], [fence, epoch + 2])
    await assert.rejects(leader.setPhase(fence, 'parking'), { code: 'FLIP_STATE' })
  })

  test(`${name}: a cancelled flip keeps owner, tenure and base at a fresh epoch, twice as once, and goes on no more (faults.md 27)`, async () => {
    await using subject = await open()
    const { leader, slots } = subject
    const [slot] = slots
    const before = (await leader.view()).ownership(slot)!
    const flip = await fenced(leader, [slot])
    const cancelled = await leader.cancelFlip(flip, 'why not')
    assert.deepEqual([cancelled.state, cancelled.epoch], ['cancelled', flip.epoch + 1])
    assert.deepEqual((await leader.view()).ownership(slot), { ...before, epoch: cancelled.epoch })
    assert.deepEqual(await leader.cancelFlip(flip, 'again'), cancelled)
    await assert.rejects(leader.setPhase(flip, 'parking'), { code: 'FLIP_STATE' })
    await assert.rejects(leader.commitFlip(flip, { newBase: before.base + 1n, held: false }), { code: 'FLIP_STATE' })
    assert.deepEqual(await leader.openFlips(), [])
  })

  test(`${name}: read-only is a flag at a fresh epoch, kept by cancel and commit; what changes nothing takes no epoch`, async () => {
    await using subject = await open()
    const { leader, slots } = subject
    const [a, b, c] = slots
    const { epoch } = await leader.view()
    assert.equal(await leader.setReadOnly([a, b], true), epoch + 1)
    assert.equal(await leader.setReadOnly([a, b], true), epoch + 1)
    await leader.cancelFlip(await fenced(leader, [a]), 'x')
    await routed(leader, [b])
    const view = await leader.view()
    assert.deepEqual(
      slots.map((slot) => [view.ownership(slot)!.readOnly, view.ownership(slot)!.owner]),
      [
        [true, 'source'],
        [true, 'target'],
        [false, 'source'],
      ],
    )
    assert.deepEqual((await leader.view()).ownership(c)!.phase, 'steady')
  })
}

function commitContract(name: string, open: OpenControl): void {
  test(`${name}: a flip to the target commits after its marker alone: owner, tenure, base and history at once, the marker before the first LSN`, async () => {
    await using subject = await open()
    const { leader, slots } = subject
    const [slot] = slots
    const flip = await fenced(leader, [slot])
    const newBase = await baseAbove(leader, [slot])
    await assert.rejects(leader.commitFlip(flip, { newBase, held: false }), { code: 'FLIP_STATE' })
    const content = await leader.writeMarker(flip)
    assert.equal(content, `flip:${flip.id}:${flip.epoch}`)
    const marked = await leader.currentWalLsn()
    const { epoch, state } = await leader.commitFlip(flip, { newBase, held: false })
    assert.deepEqual([epoch, state], [flip.epoch + 1, 'committed'])
    const row = { slot, owner: 'target', phase: 'steady', readOnly: false, epoch, tenure: epoch, base: newBase }
    assert.deepEqual((await leader.view()).ownership(slot), row)
    const [newest, older] = (await leader.tenures()).of(slot).toSorted((x, y) => y.tenure - x.tenure)
    assert.deepEqual([newest!.tenure, newest!.owner, newest!.base, older!.owner], [epoch, 'target', newBase, 'source'])
    assert.ok(newest!.firstLsn >= marked && newest!.firstLsn > older!.firstLsn)
  })

  test(`${name}: a committed flip can only be completed (INV-7), and what is sent again changes nothing`, async () => {
    await using subject = await open()
    const { leader, slots } = subject
    const flip = await committed(leader, [slots[0]])
    const again = await leader.commitFlip(flip, { newBase: 9_000_000_000n, held: false })
    assert.deepEqual(again, flip)
    await assert.rejects(leader.cancelFlip(flip, 'too late'), { code: 'FLIP_STATE' })
    await assert.rejects(leader.setPhase(flip, 'fenced'), { code: 'FLIP_STATE' })
    const steps = [{ step: 'park', ms: 3, detail: 'x' }]
    const finished = await leader.finishFlip(flip, steps)
    assert.deepEqual(journaled(finished), { ...journaled(flip), state: 'routed', steps })
    assert.deepEqual(await leader.finishFlip(flip, steps), finished)
    assert.deepEqual((await leader.commitFlip(flip, { newBase: 9_000_000_000n, held: false })).state, 'routed')
    assert.deepEqual(await leader.openFlips(), [])
  })

  test(`${name}: a held commit leaves its slots fenced under the new owner, unfinished, until it is released, once`, async () => {
    await using subject = await open()
    const { leader, slots } = subject
    const [slot] = slots
    const flip = await committed(leader, [slot], { held: true })
    const row = async () => (await leader.view()).ownership(slot)!
    const held = await row()
    assert.deepEqual([held.owner, held.phase], ['target', 'fenced'])
    await assert.rejects(leader.finishFlip(flip, []), { code: 'FLIP_STATE' })
    const released = await leader.releaseFlip(flip)
    assert.deepEqual(await row(), { ...held, phase: 'steady', epoch: flip.epoch + 1 })
    assert.deepEqual(await leader.releaseFlip(flip), released)
    assert.equal((await leader.finishFlip(flip, [])).state, 'routed')
  })

  test(`${name}: a flip past its deadline cannot commit, and is cancelled`, async () => {
    await using subject = await open()
    const { leader, slots } = subject
    const intent = await leader.writeIntent({ to: 'target', slots: [slots[0]], deadlineMs: 1 })
    await subject.passed(5)
    const flip = await leader.setPhase(intent, 'fenced')
    await leader.writeMarker(flip)
    const newBase = await baseAbove(leader, [slots[0]])
    await assert.rejects(leader.commitFlip(flip, { newBase, held: false }), { code: 'FLIP_DEADLINE' })
    assert.equal((await leader.cancelFlip(flip, 'late')).state, 'cancelled')
  })
}

function debtContract(name: string, open: OpenControl): void {
  test(`${name}: with the target silent some slots of a parked flip go, in debt, and the others stay parked (faults.md 60)`, async () => {
    await using subject = await open()
    const { leader, slots } = subject
    const [a, b, c] = slots
    await routed(leader, [a, b])
    const intent = await leader.writeIntent({ to: 'source', slots: [a, b], deadlineMs: DEADLINE_MS })
    await assert.rejects(leader.splitFlip(intent, [a]), { code: 'FLIP_STATE' })
    const parked = await leader.setPhase(intent, 'parking')
    for (const none of [[], [a, b], [c]]) await assert.rejects(leader.splitFlip(parked, none), { code: 'FLIP_STATE' })
    const { go, rest } = await leader.splitFlip(parked, [a])
    assert.deepEqual([go.id, go.slots, rest.slots, rest.state], [intent.id, [a], [b], 'parking'])
    const again = await leader.splitFlip(parked, [a])
    assert.deepEqual([again.go, again.rest], [go, rest], 'sent again')
    const flip = await leader.commitInDebt(go, { newBase: await baseAbove(leader, [a, b]), held: false })
    const debt = { slot: a, flip: intent.id, tenure: flip.epoch }
    assert.deepEqual(await leader.debts(), [debt])
    const view = await leader.view()
    assert.deepEqual([view.ownership(a)!.owner, view.ownership(b)!.owner, view.ownership(b)!.phase], ['source', 'target', 'parking'])
    await leader.settleDebts([{ ...debt, tenure: debt.tenure - 1 }])
    assert.deepEqual(await leader.debts(), [debt], 'of another tenure')
    await leader.settleDebts([debt])
    await leader.settleDebts([debt])
    assert.deepEqual(await leader.debts(), [])
    const toTarget = await leader.writeIntent({ to: 'target', slots: [c], deadlineMs: DEADLINE_MS })
    await assert.rejects(leader.splitFlip(await leader.setPhase(toTarget, 'parking'), []), { code: 'FLIP_STATE' })
  })
}

function leaderContract(name: string, open: OpenControl): void {
  test(`${name}: an overtaken leader acts no more, in any way, and nothing is changed (faults.md 5)`, async () => {
    await using subject = await open()
    const { leader, slots } = subject
    const [a, b] = slots
    const gateway = subject.gateway()
    const lease = await gateway.openLease('g1')
    const { view: before } = await renewed(gateway.renew(lease, null))
    const flip = await fenced(leader, [a])
    const seen = await gateway.look(before)
    await subject.overtaken()
    const acts = [
      () => leader.writeIntent({ to: 'target', slots: [b], deadlineMs: DEADLINE_MS }),
      () => leader.setPhase(flip, 'fenced'),
      () => leader.writeMarker(flip),
      () => leader.commitFlip(flip, { newBase: 9_000_000_000n, held: false }),
      () => leader.releaseFlip(flip),
      () => leader.cancelFlip(flip, 'x'),
      () => leader.finishFlip(flip, []),
      () => leader.setReadOnly([b], true),
      () => leader.endLeases([{ lease, renewals: 1 }]),
      () => leader.settleDebts([]),
    ]
    for (const act of acts) await assert.rejects(act(), { code: 'TOKEN_STALE' }, String(act))
    const { view: after } = await renewed(gateway.renew(lease, seen))
    assert.deepEqual([after.epoch, after.ownership(a), after.ownership(b)], [flip.epoch, seen.ownership(a), seen.ownership(b)])
  })
}
