// Promises: the part of the target contract about lines that fail: lost replies, late and doubled requests, refusals (faults.md, rows 8 to 12).
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { entryOf, headAt, numbered } from './contract-mapping.ts'
import type { Opened } from './target-contract.ts'

export function faultContract(name: string, opened: Opened): void {
  test(`${name}: a compare-and-set whose reply is lost is unknown, and it took effect`, async () => {
    await using subject = await opened()
    const { target, faults } = subject
    faults.dropNextReply('compareAndSetHead')
    await assert.rejects(target.compareAndSetHead('1', null, headAt(1, 1, 'a')), { code: 'TARGET_UNKNOWN' })
    assert.deepEqual(await target.readHead('1'), headAt(1, 1, 'a'))
    // What the commit protocol does next: the same once more, and it hears that its own head stands.
    assert.deepEqual(await target.compareAndSetHead('1', null, headAt(1, 1, 'a')), { won: false, head: headAt(1, 1, 'a') })
  })

  test(`${name}: a refusal is known: nothing took effect, of compare-and-set and append`, async () => {
    await using subject = await opened()
    const { target, faults } = subject
    faults.refuseNext('compareAndSetHead')
    await assert.rejects(target.compareAndSetHead('1', null, headAt(1, 1, 'a')), { code: 'TARGET_THROTTLED' })
    faults.refuseNext('appendEntry')
    await assert.rejects(target.appendEntry({ group: 1, lease: 'l' }, 1, entryOf('1', 1)), { code: 'TARGET_THROTTLED' })
    assert.equal(await target.readHead('1'), null)
    assert.deepEqual(await target.readOutbox({ group: 1, lease: 'l' }, 0, 5), { entries: [], end: true })
  })

  test(`${name}: an append whose reply is lost is there, and sending it again is harmless`, async () => {
    await using subject = await opened()
    const { target, faults } = subject
    const id = { group: 1, lease: 'l' }
    faults.dropNextReply('appendEntry')
    await assert.rejects(target.appendEntry(id, 1, entryOf('1', 1)), { code: 'TARGET_UNKNOWN' })
    await target.appendEntry(id, 1, entryOf('1', 1))
    assert.deepEqual(await target.readOutbox(id, 0, 5), { entries: [{ sequence: 1, entry: entryOf('1', 1) }], end: true })
  })
}

export function lateContract(name: string, opened: Opened): void {
  test(`${name}: a compare-and-set that comes late loses to what was decided meanwhile, and wins if nothing was`, async () => {
    await using subject = await opened()
    const { target, faults } = subject
    const letGo = faults.lateNext('compareAndSetHead', 'hold')
    await assert.rejects(target.compareAndSetHead('1', null, headAt(1, 1, 'late')), { code: 'TARGET_UNKNOWN' })
    assert.equal(await target.readHead('1'), null)
    assert.deepEqual(await target.compareAndSetHead('1', null, headAt(1, 1, 'first')), { won: true })
    await letGo()
    assert.deepEqual(await target.readHead('1'), headAt(1, 1, 'first'))
    const letGoToo = faults.lateNext('compareAndSetHead', 'hold')
    await assert.rejects(target.compareAndSetHead('2', null, headAt(1, 1, 'late')), { code: 'TARGET_UNKNOWN' })
    await letGoToo()
    assert.deepEqual(await target.readHead('2'), headAt(1, 1, 'late'))
  })

  test(`${name}: a put whose reply is lost is there; held back or doubled it never overwrites newer (INV-4)`, async () => {
    await using subject = await opened()
    const { target, faults } = subject
    faults.dropNextReply('putRows')
    await assert.rejects(target.putRows([numbered('1', 1, 5, ['five', null])]), { code: 'TARGET_UNKNOWN' })
    assert.deepEqual(await target.readRows([numbered('1', 1, 0, null)]), [numbered('1', 1, 5, ['five', null])])
    const letGo = faults.lateNext('putRows', 'hold')
    await assert.rejects(target.putRows([numbered('1', 1, 6, ['six', null])]), { code: 'TARGET_UNKNOWN' })
    const again = faults.lateNext('putRows', 'duplicate')
    await target.putRows([numbered('1', 1, 7, ['seven', null])])
    await target.putRows([numbered('1', 1, 8, null)])
    await Promise.all([letGo(), again()])
    assert.deepEqual(await target.readRows([numbered('1', 1, 0, null)]), [numbered('1', 1, 8, null)])
  })
}

/** A driver may send a compare-and-set twice, where it is not told to send none again. */
export function doubledContract(name: string, opened: Opened): void {
  test(`${name}: an old compare-and-set that arrives twice changes nothing the second time, in a later tenure neither`, async () => {
    await using subject = await opened()
    const { target, faults } = subject
    const again = faults.lateNext('compareAndSetHead', 'duplicate')
    assert.deepEqual(await target.compareAndSetHead('1', null, headAt(1, 1, 'a')), { won: true })
    assert.deepEqual(await target.compareAndSetHead('1', headAt(1, 1, 'a'), headAt(4, 1, 'b')), { won: true })
    await again()
    assert.deepEqual(await target.readHead('1'), headAt(4, 1, 'b'))
  })
}
