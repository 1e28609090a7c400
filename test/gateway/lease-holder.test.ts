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
    async ack() {},
    async release(lease) {
      events.push(`released ${lease}`)
    },
    onWake: () => () => undefined,
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
      lapsed: (lease) => events.push(`lapsed ${lease.id}`),
      failed: () => undefined,
    },
  })
  return {
    clock,
    events,
    leases,
    holder,
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
