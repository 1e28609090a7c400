// Promises: the one suite that every target passes (model/target.ts): compare-and-set, stamps, outboxes, ranges, scans, exact values,
// what callers build on over several calls, and what holds when replies are lost, requests come late or twice, and tenures are over
// (INV-2, INV-4, INV-6, INV-12).
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { seededRandom } from '../../src/lib/prng.ts'
import { ENTRIES_PER_BUCKET, type OutboxEntry } from '../../src/model/head.ts'
import type { Mapping } from '../../src/model/mapping.ts'
import type { RowPut } from '../../src/model/row.ts'
import type { Target } from '../../src/model/target.ts'
import type { FaultScript } from '../../src/targets/memory/faults.ts'
import { CALLER_RULES } from './caller-rules.ts'
import { contractMapping, entryOf, headAt, numbered, storedAs } from './contract-mapping.ts'
import { doubledContract, faultContract, lateContract } from './fault-contract.ts'
import { headContract, raceContract } from './head-contract.ts'
import { orderContract, readContract } from './read-contract.ts'
import { limitContract, valueContract } from './value-contract.ts'

/** The operations whose faults the suite scripts: of a compare-and-set, an append, or a put of one whole row. */
export type ContractFaults = Pick<FaultScript, 'dropNextReply' | 'refuseNext' | 'lateNext'>

export interface ContractSubject extends AsyncDisposable {
  /** Not prepared yet, and nobody else's. */
  readonly target: Target
  readonly faults: ContractFaults
}

export type OpenSubject = (mapping: Mapping) => Promise<ContractSubject>

let migrations = 0

export function targetContract(name: string, open: OpenSubject): void {
  const opened = async (keyType: Mapping['keyType'] = 'int8') => {
    const mapping = contractMapping(`contract_${process.pid}_${++migrations}`, keyType)
    const subject = await open(mapping)
    await subject.target.prepare(mapping)
    return { ...subject, mapping, [Symbol.asyncDispose]: () => subject[Symbol.asyncDispose]() }
  }
  engineContract(name, opened)
  purgeContract(name, opened)
  readContract(name, opened)
  orderContract(name, opened)
  doubledContract(name, opened)
  lifeContract(name, opened)
  valueContract(name, opened)
  limitContract(name, opened)
}

/** What the commit engine and the syncs build on: a model of a target that knows nothing else passes this much. */
export function engineContract(name: string, opened: Opened): void {
  headContract(name, opened)
  raceContract(name, opened)
  putContract(name, opened)
  partialPutContract(name, opened)
  outboxContract(name, opened)
  faultContract(name, opened)
  lateContract(name, opened)
  callerContract(name, opened)
}

export type Opened = (keyType?: Mapping['keyType']) => Promise<ContractSubject & { readonly mapping: Mapping }>

function putContract(name: string, opened: Opened): void {
  test(`${name}: a higher stamp overwrites, the same or a lower one leaves the row as it is (INV-4)`, async () => {
    await using subject = await opened()
    const { target } = subject
    const row = async () => (await target.readRows([numbered('1', 7, 0, null)]))[0]
    assert.equal(await row(), undefined)
    await target.putRows([numbered('1', 7, 10, ['ten', 'x'], true)])
    for (const [stamp, body] of [
      [10, 'same'],
      [9, 'lower'],
      [1, 'lowest'],
    ] as const) {
      await target.putRows([numbered('1', 7, stamp, [body, 'x'])])
      assert.deepEqual(await row(), storedAs(numbered('1', 7, 10, ['ten', 'x'], true)))
    }
    await target.putRows([numbered('1', 7, 11, ['eleven', null])])
    assert.deepEqual(await row(), storedAs(numbered('1', 7, 11, ['eleven', null])))
    const far = { ...numbered('1', 7, 0, ['far', 'x']), stamp: 2n ** 62n + 1n }
    await target.putRows([far])
    await target.putRows([{ ...far, stamp: 2n ** 62n, values: ['1', '7', 'near', 'x'] }])
    assert.deepEqual(await row(), far)
  })

  test(`${name}: a delete leaves a tombstone that older puts cannot pass and newer ones replace`, async () => {
    await using subject = await opened()
    const { target } = subject
    const key = numbered('1', 7, 0, null)
    await target.putRows([numbered('1', 7, 10, ['ten', 'x'])])
    await target.putRows([numbered('1', 7, 12, null, true)])
    assert.deepEqual(await target.readRows([key]), [numbered('1', 7, 12, null, true)])
    await target.putRows([numbered('1', 7, 11, ['eleven', 'x'])])
    assert.deepEqual(await target.readRows([key]), [numbered('1', 7, 12, null, true)])
    await target.putRows([numbered('1', 7, 13, ['thirteen', 'x'])])
    assert.deepEqual(await target.readRows([key]), [numbered('1', 7, 13, ['thirteen', 'x'])])
    // A delete of what was never there leaves its tombstone too.
    await target.putRows([numbered('2', 1, 5, null)])
    await target.putRows([numbered('2', 1, 4, ['late', 'x'])])
    assert.deepEqual(await target.readRows([numbered('2', 1, 0, null)]), [numbered('2', 1, 5, null)])
  })

  test(`${name}: puts in any order, doubled, in any batches, end as the highest stamp of each row says`, async () => {
    await using subject = await opened()
    const { target } = subject
    const seed = Number(process.env['SEED'] ?? Date.now() % 1_000_000)
    const random = seededRandom(seed)
    const puts = Array.from({ length: 120 }, (_, i) =>
      numbered(String(random.int(3)), random.int(4), i + 1, random.int(4) === 0 ? null : [`v${i}`, null], random.int(2) === 0),
    )
    const expected = new Map<string, RowPut>()
    for (const put of puts) expected.set(`${put.key}/${put.clustering}`, put)
    const sent = [...puts, ...puts.filter(() => random.int(2) === 0)]
    for (let i = sent.length - 1; i > 0; i--) {
      const j = random.int(i + 1)
      ;[sent[i], sent[j]] = [sent[j]!, sent[i]!]
    }
    const batches: Promise<void>[] = []
    for (let at = 0; at < sent.length; ) {
      const size = 1 + random.int(20)
      batches.push(target.putRows(sent.slice(at, at + size)))
      at += size
    }
    await Promise.all(batches)
    assert.deepEqual(await target.readRows([...expected.values()]), [...expected.values()], `seed ${seed}`)
  })
}

function partialPutContract(name: string, opened: Opened): void {
  test(`${name}: a cell that is undefined keeps the stored one, under the same rule of stamps`, async () => {
    await using subject = await opened()
    const { target } = subject
    const key = numbered('1', 7, 0, null)
    await target.putRows([numbered('1', 7, 10, ['body', 'toast'])])
    await target.putRows([numbered('1', 7, 11, ['new', undefined], true)])
    assert.deepEqual(await target.readRows([key]), [numbered('1', 7, 11, ['new', 'toast'], true)])
    await target.putRows([numbered('1', 7, 11, [undefined, 'late']), numbered('1', 7, 10, ['late', undefined])])
    assert.deepEqual(await target.readRows([key]), [numbered('1', 7, 11, ['new', 'toast'], true)])
    // In one call too, each builds on the one of the next lower stamp, in whatever order they are given.
    const together = [numbered('1', 8, 3, ['d', undefined]), numbered('1', 8, 1, ['a', 'b']), numbered('1', 8, 2, [undefined, 'c'])]
    await target.putRows(together)
    assert.deepEqual(await target.readRows([numbered('1', 8, 0, null)]), [numbered('1', 8, 3, ['d', 'c'])])
  })

  test(`${name}: a partial put on no row, or on an older tombstone, is refused rather than made up (INV-12)`, async () => {
    await using subject = await opened()
    const { target } = subject
    const partial = numbered('1', 7, 10, ['new', undefined])
    await assert.rejects(target.putRows([partial]), { code: 'TARGET_REFUSED' })
    assert.deepEqual(await target.readRows([partial]), [undefined])
    await target.putRows([numbered('1', 7, 9, null)])
    await assert.rejects(target.putRows([partial]), { code: 'TARGET_REFUSED' })
    await target.putRows([numbered('1', 7, 11, null)])
    await target.putRows([partial]) // old by now: nothing to do
    assert.deepEqual(await target.readRows([partial]), [numbered('1', 7, 11, null)])
  })
}

function purgeContract(name: string, opened: Opened): void {
  test(`${name}: tombstones below a stamp are forgotten for good, rows and later tombstones stay`, async () => {
    await using subject = await opened()
    const { target } = subject
    const rows = [numbered('1', 1, 5, null), numbered('1', 2, 9, null), numbered('1', 3, 5, ['x', 'y']), numbered('2', 1, 5, null)]
    await target.putRows(rows)
    assert.equal(await target.purgeTombstones('public.numbered', 9n), 2)
    assert.deepEqual(await target.readRows(rows), [undefined, rows[1], rows[2], undefined])
    assert.equal(await target.purgeTombstones('public.numbered', 9n), 0)
    assert.deepEqual(await target.readRange({ table: 'public.numbered', key: '1', limit: 9 }), { rows: [rows[1], rows[2]], next: null })
  })
}

function outboxContract(name: string, opened: Opened): void {
  const id = { group: 3, lease: 'lease-a' }
  const numbers = (entries: readonly { readonly sequence: number }[]) => entries.map(({ sequence }) => sequence)

  test(`${name}: an outbox is read in order, after a sequence, page by page, with its holes, and apart from other leases`, async () => {
    await using subject = await opened()
    const { target } = subject
    for (const sequence of [4, 1, 2, 6]) await target.appendEntry(id, sequence, entryOf('k', sequence))
    await target.appendEntry({ group: 3, lease: 'lease-b' }, 3, entryOf('other', 1))
    await target.appendEntry({ group: 4, lease: 'lease-a' }, 5, entryOf('other', 1))
    const all = [1, 2, 4, 6].map((sequence) => ({ sequence, entry: entryOf('k', sequence) }))
    assert.deepEqual(await target.readOutbox(id, 0, 10), { entries: all, end: true })
    assert.deepEqual(await target.readOutbox(id, 0, 4), { entries: all, end: true })
    assert.deepEqual(await target.readOutbox(id, 0, 3), { entries: all.slice(0, 3), end: false })
    assert.deepEqual(await target.readOutbox(id, 2, 10), { entries: all.slice(2), end: true })
    assert.deepEqual(await target.readOutbox(id, 6, 10), { entries: [], end: true })
    assert.deepEqual(await target.readOutbox({ group: 3, lease: 'none' }, 0, 10), { entries: [], end: true })
  })

  test(`${name}: an entry comes back whole, and appending it again changes nothing`, async () => {
    await using subject = await opened()
    const { target } = subject
    const entry: OutboxEntry = entryOf('ключ', 2, {
      prev: 'before',
      changes: [
        { table: 'public.numbered', clustering: ['-1'], values: ['1', '-1', '', undefined] },
        { table: 'public.named', clustering: ['a\u0001b'], values: null },
      ],
    })
    await target.appendEntry(id, 1, entry)
    await target.appendEntry(id, 1, entry)
    assert.deepEqual(await target.readOutbox(id, 0, 10), { entries: [{ sequence: 1, entry }], end: true })
  })

  test(`${name}: reading goes on over buckets, also past a full and a half empty one, and a deleted bucket is gone whole`, async () => {
    await using subject = await opened()
    const { target } = subject
    const last = ENTRIES_PER_BUCKET
    const sequences = [last - 1, last, last + 2, 2 * last, 2 * last + 1]
    for (const sequence of sequences) await target.appendEntry(id, sequence, entryOf('k', sequence))
    for (let sequence = 1; sequence <= 30; sequence++) await target.appendEntry(id, sequence, entryOf('k', sequence))
    const early = Array.from({ length: 30 }, (_, i) => i + 1)
    assert.deepEqual(numbers((await target.readOutbox(id, 0, 100)).entries), [...early, ...sequences])
    assert.deepEqual(await target.readOutbox(id, last - 1, 2), {
      entries: [last, last + 2].map((sequence) => ({ sequence, entry: entryOf('k', sequence) })),
      end: false,
    })
    await target.deleteBucket(id, 0)
    await target.deleteBucket(id, 0)
    assert.deepEqual(numbers((await target.readOutbox(id, last, 100)).entries), sequences.slice(2))
    await target.deleteBucket(id, 1)
    await target.deleteBucket(id, 2)
    assert.deepEqual(await target.readOutbox(id, last, 100), { entries: [], end: true })
  })
}

function callerContract(name: string, opened: Opened): void {
  for (const [rule, check] of Object.entries(CALLER_RULES)) {
    test(`${name}: ${rule}`, async () => {
      await using subject = await opened()
      await check(subject.target)
    })
  }
}

function lifeContract(name: string, opened: Opened): void {
  test(`${name}: the control item changes by compare-and-set`, async () => {
    await using subject = await opened()
    const { target } = subject
    const first = { systemIdentifier: '7312345678901234567', timeline: 1, epoch: 4 }
    const second = { ...first, timeline: 2, epoch: 5 }
    assert.equal(await target.readControl(), null)
    assert.equal(await target.writeControl(first, second), false)
    assert.equal(await target.writeControl(null, first), true)
    assert.equal(await target.writeControl(null, second), false)
    for (const wrong of [
      { ...first, epoch: 3 },
      { ...first, timeline: 9 },
      { ...first, systemIdentifier: '1' },
    ])
      assert.equal(await target.writeControl(wrong, second), false)
    assert.deepEqual(await target.readControl(), first)
    const race = await Promise.all([target.writeControl(first, second), target.writeControl(first, { ...second, epoch: 6 })])
    assert.deepEqual(race.toSorted(), [false, true])
  })

  test(`${name}: prepare again leaves everything as it is, and refuses a table that is there with another key`, async () => {
    await using subject = await opened()
    const { target, mapping } = subject
    const put = numbered('1', 1, 1, ['kept', null])
    await target.putRows([put])
    await target.compareAndSetHead('1', null, headAt(1, 1, 'a'))
    await target.prepare(mapping)
    assert.deepEqual(await target.readRows([put]), [put])
    assert.deepEqual(await target.readHead('1'), headAt(1, 1, 'a'))
    const tables = mapping.tables.map((table) => (table.name === 'public.numbered' ? { ...table, clustering: [] } : table))
    await assert.rejects(target.prepare({ ...mapping, tables }), { code: 'TARGET_REFUSED' })
    assert.deepEqual(await target.readRows([put]), [put])
  })

  test(`${name}: remove takes what Switchback made, and the rows only if asked to; twice is as once`, async () => {
    await using subject = await opened()
    const { target, mapping } = subject
    const put = numbered('1', 1, 1, ['kept', null])
    await target.putRows([put])
    await target.compareAndSetHead('1', null, headAt(1, 1, 'a'))
    await target.remove(mapping, { rows: false })
    await target.remove(mapping, { rows: false })
    await target.prepare(mapping)
    assert.equal(await target.readHead('1'), null)
    assert.deepEqual(await target.readRows([put]), [put])
    await target.remove(mapping, { rows: true })
    await target.remove(mapping, { rows: true })
    await target.prepare(mapping)
    assert.deepEqual(await target.readRows([put]), [undefined])
  })
}
