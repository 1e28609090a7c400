// Promises: heads of a target: compare-and-set by tenure, version, txnId and lock, also among racers.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Head } from '../../src/model/head.ts'
import { headAt } from './contract-mapping.ts'
import type { Opened } from './target-contract.ts'

export function headContract(name: string, opened: Opened): void {
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
}

export function raceContract(name: string, opened: Opened): void {
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
