import assert from 'node:assert/strict'
import { test } from 'node:test'
import { startLeaseHolder } from '../../src/gateway/lease-holder.ts'
import { seededRandom } from '../../src/lib/prng.ts'
import type { GatewayControl, Renewal } from '../../src/model/control.ts'
import type { LeaseHandle } from '../../src/model/executor.ts'
import { RoutingView } from '../../src/model/ownership.ts'
import { VirtualClock } from '../support/virtual-clock.ts'

const TIMES = { lengthMs: 3_000, renewMs: 1_000, marginRatio: 0.1 }
const VIEW = new RoutingView({ epoch: 1, bindingEpoch: 1, rows: [], pins: [] })
const RENEWAL: Renewal = { view: VIEW, rightsDigest: '', catalogDigest: '' }

/** A clock whose wall part can run ahead of the monotonic one, as after a suspension. */
class SuspendedClock extends VirtualClock {
  aheadMs = 0
  override nowMs(): number {
    return super.nowMs() + this.aheadMs
  }
}

function world() {
  const clock = new SuspendedClock()
  const events: string[] = []
  const leases: LeaseHandle[] = []
  const looks: number[] = []
  let wake = () => undefined as void
  let opened = 0
  let answerAfterMs = 0
  let verdict: Renewal | 'over' | 'lost' = RENEWAL
  const control: GatewayControl = {
    async openLease() {
      return `lease-${++opened}`
    },
    async renew() {
      const answer = verdict
      if (answerAfterMs > 0) await clock.sleep(answerAfterMs)
      if (answer === 'lost') throw new Error('cannot reach PostgreSQL')
      return answer
    },
    async look(seen) {
      looks.push(seen.epoch)
      return new RoutingView({ epoch: seen.epoch + 1, bindingEpoch: 1, rows: [], pins: [] })
    },
    async ackPartly() {},
    async ack() {},
    async parked() {},
    async release(lease) {
      events.push(`released ${lease}`)
    },
    onWake(call) {
      wake = call
      return () => undefined
    },
  }
  const holder = startLeaseHolder({
    control,
    gateway: 'test',
    clock,
    random: seededRandom(7),
    times: TIMES,
    events: {
      renewed: (_renewal, lease) => {
        if (!leases.includes(lease)) {
          leases.push(lease)
          events.push(`holds ${lease.id}`)
        }
      },
      viewed: (view, lease) => events.push(`viewed ${view.epoch} under ${lease.id}`),
      lapsed: (lease) => events.push(`lapsed ${lease.id}`),
      failed: () => undefined,
    },
  })
  return {
    clock,
    events,
    leases,
    looks,
    holder,
    wake: () => wake(),
    answer: (next: Renewal | 'over' | 'lost', afterMs = 0) => {
      verdict = next
      answerAfterMs = afterMs
    },
  }
}

test('a lease holds while renewals come, and ends for good a lease length after the last one was sent', async () => {
  const { clock, events, leases, holder, answer } = world()
  await clock.advance(10_000)
  assert.deepEqual(events, ['holds lease-1'])
  answer('lost')
  await clock.advance(1_900)
  assert.equal(leases[0]!.holds(), true)
  await clock.advance(1_200)
  assert.equal(leases[0]!.holds(), false)
  assert.equal(holder.current(), null)
  answer(RENEWAL)
  await clock.advance(2_000)
  assert.deepEqual(events.slice(0, 2), ['holds lease-1', 'lapsed lease-1'])
  assert.equal(leases.length, 2)
  assert.notEqual(leases[1]!.id, 'lease-1')
  assert.equal(leases[0]!.holds(), false)
  await holder.close()
})

test('a wake-up between renewals brings the view, and extends nothing: renewals come when they are due', async () => {
  const { clock, events, leases, looks, holder, answer, wake } = world()
  await clock.advance(100)
  for (let i = 0; i < 3; i++) {
    wake()
    await clock.advance(10)
  }
  assert.deepEqual(events, ['holds lease-1', 'viewed 2 under lease-1', 'viewed 3 under lease-1', 'viewed 4 under lease-1'])
  assert.deepEqual(looks, [1, 2, 3])
  // However often it is woken, a lease that is not renewed ends.
  answer('lost')
  for (let i = 0; i < 40; i++) {
    wake()
    await clock.advance(100)
  }
  assert.equal(leases[0]!.holds(), false)
  assert.equal(events.filter((event) => event === 'lapsed lease-1').length, 1)
  const lapsedAt = events.indexOf('lapsed lease-1')
  assert.ok(!events.slice(lapsedAt).some((event) => event.startsWith('viewed')), 'nothing is seen under a lease that is over')
  await holder.close()
})

test('a renewal that is answered after the lapse revives nothing', async () => {
  const { clock, events, leases, holder, answer } = world()
  await clock.advance(100)
  answer(RENEWAL, 2_900)
  await clock.advance(3_500)
  assert.equal(leases[0]!.holds(), false)
  assert.deepEqual(events.slice(0, 2), ['holds lease-1', 'lapsed lease-1'])
  await holder.close()
})

test('the time counts from before the renewal was sent, not from its answer', async () => {
  const { clock, leases, holder, answer } = world()
  await clock.advance(500)
  answer(RENEWAL, 900)
  // Sent at 1,000, answered at 1,900: holds until 4,000.
  await clock.advance(1_450)
  answer('lost')
  await clock.advance(2_000)
  assert.equal(leases[0]!.holds(), true)
  await clock.advance(100)
  assert.equal(leases[0]!.holds(), false)
  await holder.close()
})

test('a machine that was suspended past its lease finds it over before anything runs, though the monotonic clock stood still', async () => {
  const { clock, leases, holder } = world()
  await clock.advance(100)
  clock.aheadMs = 3_600_000
  assert.equal(leases[0]!.holds(), false)
  assert.equal(holder.current(), null)
  clock.aheadMs = 0
  assert.equal(leases[0]!.holds(), false)
  await holder.close()
})

test('a lease that the leader called over is never renewed: a new one is taken', async () => {
  const { clock, events, holder, answer } = world()
  await clock.advance(100)
  answer('over')
  await clock.advance(1_000)
  answer(RENEWAL)
  await clock.advance(2_000)
  assert.deepEqual(events.slice(0, 2), ['holds lease-1', 'lapsed lease-1'])
  assert.match(events[2]!, /^holds lease-[2-9]/)
  await holder.close()
})
