// Promises: the one suite that every target passes (model/target.ts): compare-and-set, stamps, outboxes, ranges, scans, exact values,
// what callers build on over several calls, and what holds when replies are lost, requests come late or twice, and tenures are over
// (INV-2, INV-4, INV-6, INV-12).
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { seededRandom } from '../../src/lib/prng.ts'
import { ENTRIES_PER_BUCKET, type Head, type OutboxEntry } from '../../src/model/head.ts'
import type { Mapping } from '../../src/model/mapping.ts'
import type { RowPut, StampedRow } from '../../src/model/row.ts'
import type { Target } from '../../src/model/target.ts'
import type { FaultScript } from '../../src/targets/memory/faults.ts'
import { CALLER_RULES } from './caller-rules.ts'
import { contractMapping, entryOf, headAt, numbered, storedAs } from './contract-mapping.ts'
import { faultContract } from './fault-contract.ts'
import { valueContract } from './value-contract.ts'

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
  headContract(name, opened)
  putContract(name, opened)
  outboxContract(name, opened)
  readContract(name, opened)
  faultContract(name, opened)
  callerContract(name, opened)
  lifeContract(name, opened)
  valueContract(name, opened)
}

export type Opened = (keyType?: Mapping['keyType']) => Promise<ContractSubject & { readonly mapping: Mapping }>

function headContract(name: string, opened: Opened): void {
  test(`${name}: a head is there after it was won, whole, and an aggregate without one has none`, async () => {
    await using subject = await opened()
    const { target } = subject
    const head = headAt(5, 3, 'txn-c', {
      prev: 'txn-b',
      redo: [
        { table: 'public.numbered', clustering: ['1'], values: ['1', '1', 'é "\\ \n 😀', null] },
        { table: 'public.deep', clustering: ['1', '', 't'], values: null },
      ],
      lock: 'span-1',
      recent: [1, 2, 3].map((version) => ({ version, txnId: `txn-${version}` })),
    })
    assert.equal(await target.readHead('1'), null)
    assert.deepEqual(await target.compareAndSetHead('1', null, head), { won: true })
    assert.deepEqual(await target.readHead('1'), head)
    assert.equal(await target.readHead('11'), null)
  })

  test(`${name}: the compare-and-set compares tenure, version, txnId and lock, and a loser is given the head that stands`, async () => {
    await using subject = await opened()
    const { target } = subject
    const plain = headAt(5, 1, 'a')
    const locked = headAt(5, 1, 'a', { lock: 'span' })
    assert.deepEqual(await target.compareAndSetHead('1', plain, headAt(5, 2, 'b')), { won: false, head: null })
    assert.deepEqual(await target.compareAndSetHead('1', null, plain), { won: true })
    for (const wrong of [null, headAt(4, 1, 'a'), headAt(5, 2, 'a'), headAt(5, 1, 'x'), locked])
      assert.deepEqual(await target.compareAndSetHead('1', wrong, headAt(5, 2, 'b')), { won: false, head: plain })
    assert.deepEqual(await target.compareAndSetHead('1', plain, locked), { won: true })
    for (const wrong of [plain, headAt(5, 1, 'a', { lock: 'other' })])
      assert.deepEqual(await target.compareAndSetHead('1', wrong, headAt(5, 2, 'b')), { won: false, head: locked })
    // Of the expected head only its identity counts.
    assert.deepEqual(await target.compareAndSetHead('1', { ...locked, prev: 'z', recent: [] }, headAt(5, 2, 'b')), { won: true })
    assert.deepEqual(await target.readHead('1'), headAt(5, 2, 'b'))
  })

  test(`${name}: a head of an older tenure is replaced by one of a newer, and a writer of the older then loses`, async () => {
    await using subject = await opened()
    const { target } = subject
    const old = headAt(5, 9, 'old')
    const fresh = headAt(8, 1, 'fresh')
    await target.compareAndSetHead('1', null, old)
    assert.deepEqual(await target.compareAndSetHead('1', old, fresh), { won: true })
    assert.deepEqual(await target.compareAndSetHead('1', old, headAt(5, 10, 'late')), { won: false, head: fresh })
  })

  test(`${name}: of racers for one head exactly one wins each version`, async () => {
    await using subject = await opened()
    const { target } = subject
    const racers = 6
    const versions = 12
    const wins: string[] = []
    const race = async (racer: number) => {
      let seen: Head | null = null
      while ((seen?.version ?? 0) < versions) {
        const next: Head = headAt(1, (seen?.version ?? 0) + 1, `r${racer}-${seen?.version ?? 0}`, { prev: seen?.txnId ?? null })
        const result = await target.compareAndSetHead('race', seen, next)
        if (result.won) wins.push(`${next.version} ${next.txnId} after ${next.prev}`)
        seen = result.won ? next : result.head
      }
    }
    await Promise.all(Array.from({ length: racers }, (_, racer) => race(racer)))
    const inOrder = wins.toSorted((a, b) => Number.parseInt(a, 10) - Number.parseInt(b, 10))
    assert.deepEqual(
      inOrder.map((win) => Number.parseInt(win, 10)),
      Array.from({ length: versions }, (_, i) => i + 1),
    )
    const txnIds = inOrder.map((win) => win.split(' ')[1])
    assert.deepEqual(
      inOrder.map((win) => win.split(' after ')[1]),
      ['null', ...txnIds.slice(0, -1)],
    )
  })
}

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

function readContract(name: string, opened: Opened): void {
  test(`${name}: rows are read in the order asked, doubles, strangers and many tables included`, async () => {
    await using subject = await opened()
    const { target } = subject
    const rows = Array.from({ length: 130 }, (_, i) => numbered(String(i % 7), i, 1, [`b${i}`, null]))
    const only: RowPut = { table: 'public.named', key: '3', clustering: ['n'], values: ['3', 'n', 'z'], stamp: 4n, mark: true }
    await target.putRows([...rows, only])
    const asked = [...rows.toReversed(), numbered('99', 1, 0, null), only, rows[5]!, only]
    assert.deepEqual(await target.readRows(asked), [...rows.toReversed(), undefined, only, rows[5], only])
    assert.deepEqual(await target.readRows([]), [])
    await target.putRows([])
  })

  test(`${name}: integers cluster by value, in pages, tombstones included, within their aggregate alone`, async () => {
    await using subject = await opened()
    const { target } = subject
    const order = ['-9223372036854775808', '-100', '-99', '-9', '-1', '0', '1', '9', '10', '99', '100', '9223372036854775807']
    const rows = order.map((n, i) => numbered('1', n, 1, i % 3 === 0 ? null : [n, null]))
    await target.putRows([...rows.toReversed(), numbered('2', 5, 1, ['other', null])])
    const range = { table: 'public.numbered', key: '1' }
    assert.deepEqual(await target.readRange({ ...range, limit: 100 }), { rows, next: null })
    assert.deepEqual(await target.readRange({ ...range, limit: 100, after: ['-5'] }), { rows: rows.slice(4), next: null })
    assert.deepEqual(await pages(target, range, 5), rows)
    assert.deepEqual(await target.readRange({ ...range, key: '3', limit: 5 }), { rows: [], next: null })
  })

  test(`${name}: text clusters by its UTF-8 bytes, the empty one and control characters included`, async () => {
    await using subject = await opened()
    const order = [
      '',
      '\u0001',
      '\u0001\u0001',
      '\u0001a',
      '\u0002',
      '\u0003',
      ' ',
      'A',
      'Z',
      'a',
      'a\u0001',
      'a b',
      'ab',
      'b',
      'é',
      '\uffee',
      '😀',
    ]
    const rows = order.map((text): StampedRow => ({ ...at('public.named', [text]), values: ['1', text, `<${text}>`] }))
    await subject.target.putRows(rows.toReversed())
    assert.deepEqual(await pages(subject.target, { table: 'public.named', key: '1' }, 4), rows)
    assert.deepEqual(await subject.target.readRows(rows), rows)
  })

  test(`${name}: bytea clusters by its bytes; a type without an order of its own by its text, whose cell keeps its own form`, async () => {
    await using subject = await opened()
    const { target } = subject
    const digests = ['\\x', '\\x00', '\\x0001', '\\x01', '\\x7f', '\\xff'].map(
      (text): StampedRow => ({ ...at('public.hashed', [text]), values: ['1', text, 'b'] }),
    )
    const amounts = [
      ['-1', '-1.00'],
      ['1', '1.0'],
      ['10', '10'],
      ['2', '2.000'],
      ['NaN', 'NaN'],
    ].map(([canonical, cell]): StampedRow => ({ ...at('public.amounts', [canonical!]), values: ['1', cell!, 'b'] }))
    await target.putRows([...digests.toReversed(), ...amounts.toReversed()])
    assert.deepEqual(await pages(target, { table: 'public.hashed', key: '1' }, 2), digests)
    assert.deepEqual(await pages(target, { table: 'public.amounts', key: '1' }, 2), amounts)
  })

  test(`${name}: several clustering columns order by the first, then the next, and page within one value`, async () => {
    await using subject = await opened()
    const order = [
      ['-2', 'z', 't'],
      ['3', '', 'f'],
      ['3', '', 't'],
      ['3', 'a', 't'],
      ['3', 'a\u0001', 'f'],
      ['3', 'ab', 'f'],
      ['20', '', 'f'],
    ]
    const rows = order.map(([a, b, flag]): StampedRow => ({ ...at('public.deep', [a!, b!, flag!]), values: ['1', b!, a!, flag!, null] }))
    rows[2] = { ...rows[2]!, values: null }
    await subject.target.putRows(rows.toReversed())
    assert.deepEqual(await pages(subject.target, { table: 'public.deep', key: '1' }, 2), rows)
  })

  test(`${name}: a table whose whole key is the partition column has at most one row a range`, async () => {
    await using subject = await opened()
    const row: RowPut = { ...at('public.wide', []), values: null }
    await subject.target.putRows([row])
    assert.deepEqual(await subject.target.readRange({ table: 'public.wide', key: '1', limit: 5 }), { rows: [row], next: null })
    assert.deepEqual(await subject.target.readRange({ table: 'public.wide', key: '2', limit: 5 }), { rows: [], next: null })
  })

  test(`${name}: the segments of a scan are disjoint and complete, tombstones included, an aggregate in one of them`, async () => {
    await using subject = await opened()
    const { target } = subject
    const rows = Array.from({ length: 300 }, (_, i) => numbered(String(i % 60), i, 1, i % 5 === 0 ? null : ['x'.repeat(200), null]))
    await target.putRows(rows)
    for (const segments of [1, 4]) {
      const found: string[] = []
      const homes = new Map<string, Set<number>>()
      for (let segment = 0; segment < segments; segment++) {
        for await (const batch of target.scanRows({ table: 'public.numbered', segment, segments })) {
          for (const row of batch) {
            found.push(`${row.key}/${row.clustering}/${row.values === null}`)
            homes.set(row.key, (homes.get(row.key) ?? new Set()).add(segment))
          }
        }
      }
      assert.deepEqual(found.sort(), rows.map((row) => `${row.key}/${row.clustering}/${row.values === null}`).sort())
      assert.ok([...homes.values()].every((segmentsOfKey) => segmentsOfKey.size === 1))
    }
  })
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

function at(table: string, clustering: readonly string[]): Omit<StampedRow, 'values'> {
  return { table, key: '1', clustering, stamp: 1n, mark: false }
}

async function pages(target: Target, range: { table: string; key: string }, limit: number): Promise<StampedRow[]> {
  const rows: StampedRow[] = []
  let after: readonly string[] | null = null
  do {
    const page = await target.readRange({ ...range, limit, ...(after === null ? {} : { after }) })
    assert.ok(page.rows.length <= limit)
    rows.push(...page.rows)
    after = page.next
  } while (after !== null)
  return rows
}
