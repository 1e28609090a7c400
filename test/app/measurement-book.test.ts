import assert from 'node:assert/strict'
import { test } from 'node:test'
import { ArmMeter, MEASURED_KEPT_MS } from '../../src/app/arm-meter.ts'
import { LOST_TOLD_MS } from '../../src/app/lost-reports.ts'
import { MeasurementBook, SILENT_AFTER_MS } from '../../src/app/measurement-book.ts'
import { countOf } from '../../src/canary/latencies.ts'
import type { LeaseRow } from '../../src/model/control.ts'
import type { Owner } from '../../src/model/ids.ts'
import { hashSlotOf } from '../../src/model/key.ts'
import { answered, handClock } from './measuring.ts'

const LEASE_OVER_MS = 3_300

function world({ queued = true }: { readonly queued?: boolean } = {}) {
  const clock = handClock()
  const leases: { -readonly [K in keyof LeaseRow]: LeaseRow[K] }[] = []
  const owners = new Map<string, Owner>()
  const book = new MeasurementBook({
    leases: () => leases,
    leaseOverMs: LEASE_OVER_MS,
    slotOf: hashSlotOf,
    ownerOf: (slot) => [...owners].find(([key]) => hashSlotOf(key) === slot)?.[1] ?? 'source',
    queued,
    clock,
  })
  /** Renewed with each second that passes, until it is over. */
  const lease = (gateway: string, id = gateway) => {
    const row = { lease: id, gateway, renewals: 0, ackedEpoch: 0, over: false, nextSequences: new Map(), excused: [] }
    leases.push(row)
    return { row, meter: new ArmMeter(clock) }
  }
  const pass = (ms: number, ...renewed: { row: { renewals: number } }[]) => {
    clock.at += ms
    for (const { row } of renewed) row.renewals++
  }
  return { clock, book, lease, pass, owners }
}

test('a span is what all gateways told since the last one, merged by statement and arm', () => {
  const { book, lease, pass } = world()
  const [one, two] = [lease('one'), lease('two')]
  one.meter.statement(answered('a', { ms: 1 }))
  two.meter.statement(answered('a', { ms: 1, failed: true }))
  two.meter.statement(answered('b', { arm: 'target', ms: 9 }))
  pass(1_000, one, two)
  for (const { row, meter } of [one, two]) book.report(row.lease, meter.take())
  const { statements, silent } = book.takeSpan()
  assert.deepEqual(silent, [])
  const { canary, control } = statements!['select ?']!
  assert.deepEqual([control.requests, control.errors, countOf(control.latencies), control.latencies.counts], [2, 1, 2, [2]])
  assert.deepEqual([canary.requests, canary.errors, countOf(canary.latencies)], [1, 0, 1])
  assert.deepEqual(book.takeSpan(), { statements: {}, silent: [] })
})

test('a gateway that holds a lease and tells nothing is named, and nothing is known of that span (INV-10)', () => {
  const { book, lease, pass } = world()
  const [one, two] = [lease('one'), lease('two')]
  assert.deepEqual(book.takeSpan(), { statements: {}, silent: [] })
  for (let ms = 0; ms < SILENT_AFTER_MS; ms += 1_000) {
    pass(1_000, one, two)
    // Without traffic, still a report.
    book.report('one', one.meter.take())
    assert.deepEqual(book.takeSpan(), { statements: {}, silent: [] })
  }
  pass(1, one, two)
  one.meter.statement(answered('a'))
  book.report('one', one.meter.take())
  assert.deepEqual(book.takeSpan(), { statements: null, silent: ['two'] })
  // It speaks again, and all it had to say counts.
  two.meter.statement(answered('a'))
  book.report('two', two.meter.take())
  assert.equal(book.takeSpan().statements!['select ?']!.control.requests, 1)
})

test('a lease that is over, or renewed no more, holds nothing up: its gateway is gone, and a new one of its name is another', () => {
  const { book, lease, pass } = world()
  const [dead, ended] = [lease('one', 'first'), lease('two')]
  book.takeSpan()
  ended.row.over = true
  const again = lease('one', 'second')
  for (let s = 0; s < 10; s++) {
    pass(1_000, again)
    again.meter.statement(answered('a'))
    book.report('second', again.meter.take())
    assert.deepEqual(book.takeSpan().silent, [], `second ${s}`)
  }
  // Whoever renews, and says nothing, is not gone.
  for (let s = 0; s < 6; s++) {
    pass(1_000, again, dead)
    book.report('second', again.meter.take())
    book.takeSpan()
  }
  assert.deepEqual(book.takeSpan().silent, ['one'])
})

test('the profile has requests of the last minutes by slot and hot key, of both arms and all gateways, and what is older falls out', () => {
  const { book, lease, pass } = world()
  const gateways = [lease('one'), lease('two')]
  for (let s = 0; s < 20; s++) {
    pass(1_000, ...gateways)
    for (const { row, meter } of gateways) {
      for (let i = 0; i < 10; i++) meter.statement(answered('hot', { arm: i % 2 === 0 ? 'source' : 'target' }))
      meter.statement(answered('cold'))
      book.report(row.lease, meter.take())
    }
  }
  const { slots, keys } = book.profile()
  assert.deepEqual([slots.get(hashSlotOf('hot')), slots.get(hashSlotOf('cold'))], [400, 40])
  // Named from the second report on.
  assert.deepEqual(keys, [
    { key: 'hot', slot: hashSlotOf('hot'), requests: 380 },
    { key: 'cold', slot: hashSlotOf('cold'), requests: 38 },
  ])
  const { source, target } = book.hotKeys()
  // As told with the 16th report: sketches go with every fifth, and stand until the next.
  assert.deepEqual(source.requests[0], { key: 'hot', count: 160, error: 0 })
  assert.deepEqual(target.requests, [{ key: 'hot', count: 160, error: 0 }])
  pass(320_000, ...gateways)
  book.report('one', gateways[0]!.meter.take())
  assert.equal(book.profile().slots.size, 0)
})

/** A hundred commits a second of a key that has not moved, ten of one that has. */
function contended(at: ReturnType<typeof world>, holdMs: number, told: (meter: ArmMeter) => void): void {
  const one = at.lease('one')
  at.owners.set('moved', 'target')
  for (let s = 0; s < 60; s++) {
    at.pass(1_000, one)
    for (let i = 0; i < 100; i++) one.meter.statement(answered('stays', { commits: true }))
    for (let i = 0; i < 100; i++) one.meter.statement(answered('read only'))
    for (let i = 0; i < 10; i++) {
      one.meter.statement(answered('moved', { arm: 'target', commits: true }))
      one.meter.held('moved', holdMs)
      told(one.meter)
    }
    at.book.report('one', one.meter.take())
  }
}

test('a key that has not moved is named as one that would saturate, by the holds of those that have; reads stand in no line', () => {
  const at = world()
  contended(at, 20, () => undefined)
  const [stays, moved, readOnly] = at.book.saturation(1)
  assert.deepEqual([stays!.key, stays!.act, stays!.basis], ['stays', 'block', 'holds of the moved keys'])
  assert.ok(Math.abs(stays!.rho!.mean - 2) < 0.1, `100 a second x 20 ms is 2, not ${stays!.rho!.mean}`)
  assert.deepEqual([moved!.key, moved!.act, moved!.basis], ['moved', 'none', 'own holds'])
  assert.deepEqual([readOnly!.key, readOnly!.act, readOnly!.rho!.mean], ['read only', 'none', 0])
  // Gone home, it is one of those that have not moved.
  at.owners.clear()
  assert.equal(at.book.saturation(1).find(({ key }) => key === 'moved')!.basis, 'holds of the moved keys')
})

test('where sessions do not queue, lost compare-and-sets say the same', () => {
  const at = world({ queued: false })
  let n = 0
  contended(at, 0, (meter) => {
    if (++n % 5 === 0) meter.casLost('moved')
  })
  const [stays, moved] = at.book.saturation(1)
  assert.deepEqual([stays!.key, stays!.act, stays!.basis], ['stays', 'block', 'retries of the moved keys'])
  assert.deepEqual([moved!.key, moved!.basis, Math.round(10 * moved!.rho!.mean)], ['moved', 'own retries', 2])
})

test('what a gateway let go, and a report that was lost with its connection, are summed by gateway for an hour (INV-11)', () => {
  const { clock, book, lease, pass } = world()
  const [one, two] = [lease('one'), lease('two')]
  const tell = ({ row, meter }: typeof one) => book.report(row.lease, meter.take())
  pass(1_000, one, two)
  for (const each of [one, two]) tell(each)
  assert.deepEqual(book.lost(), [])

  // Nobody takes its reports: what is too old goes, and is told with the next.
  pass(MEASURED_KEPT_MS + 1_000, one, two)
  one.meter.keep()
  pass(1_000, one, two)
  for (const each of [one, two]) tell(each)
  const first = book.lost()
  assert.deepEqual(
    first.map(({ gateway, lostMs }) => [gateway, lostMs]),
    [['one', MEASURED_KEPT_MS + 1_000]],
  )
  // Sent, and never come: the next one begins after it.
  two.meter.take()
  pass(2_500, one, two)
  two.meter.take()
  pass(1_000, one, two)
  for (const each of [one, two]) tell(each)
  assert.deepEqual(
    book
      .lost()
      .map(({ gateway, lostMs }) => [gateway, lostMs])
      .sort(),
    [
      ['one', MEASURED_KEPT_MS + 1_000],
      ['two', 2_500],
    ],
  )
  clock.at += LOST_TOLD_MS + 1
  assert.deepEqual(book.lost(), [])
})

test('the first report that a leader has of a gateway, and those of an older gateway, leave no hole; gaps are bounded', () => {
  const { book, lease, pass } = world()
  const [late, older] = [lease('late'), lease('older')]
  pass(10_000, late, older)
  // Told to the leader before.
  late.meter.take()
  pass(1_000, late, older)
  book.report(late.row.lease, late.meter.take())
  for (let n = 0; n < 3; n++) {
    pass(5_000, late, older)
    const report = older.meter.take()
    if (n !== 1) book.report(older.row.lease, { ...report, fromMs: null })
  }
  assert.deepEqual(book.lost(), [])
  for (let n = 0; n < 200; n++) {
    late.meter.take()
    pass(10, late, older)
    late.meter.take()
    book.report(late.row.lease, late.meter.take())
  }
  // The first of them lay over what was told to nobody since its last report.
  assert.deepEqual(
    book.lost().map(({ gateway, lostMs }) => [gateway, lostMs]),
    [['late', 15_000 + 200 * 10]],
  )
})
