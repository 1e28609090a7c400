// Promises: what the layers above rely on where several calls belong together, each rule as a check of its own, so that a wrong target can
// be shown to fail it (wrong-targets.test.ts): a target must hold with callers that go to the limits of their own promises.
import assert from 'node:assert/strict'
import { ENTRIES_IN_FLIGHT_MAX, ENTRIES_PER_BUCKET } from '../../src/model/head.ts'
import type { Target } from '../../src/model/target.ts'
import { entryOf, numbered } from './contract-mapping.ts'

export const CALLER_RULES = {
  /** A lease that ended with all it may have under way leaves such holes: what lies behind them was acknowledged. */
  'an outbox is read past every hole that its writer may leave, wherever reading begins': async (target: Target) => {
    const begins = [0, 1, ENTRIES_PER_BUCKET / 2, ENTRIES_PER_BUCKET - 2, ENTRIES_PER_BUCKET - 1, ENTRIES_PER_BUCKET]
    for (const after of begins) {
      const id = { group: 1, lease: `holes-${after}` }
      const behind = after + ENTRIES_IN_FLIGHT_MAX + 1
      await target.appendEntry(id, behind, entryOf('k', 1))
      const expected = { entries: [{ sequence: behind, entry: entryOf('k', 1) }], end: true }
      assert.deepEqual(await target.readOutbox(id, after, 10), expected, `after ${after}`)
    }
  },

  /** `final` is said of an outbox by this end, and what comes later is taken for never acknowledged. */
  'an outbox ends only where nothing is left, page by page, and no page before the end is empty': async (target: Target) => {
    const id = { group: 2, lease: 'pages' }
    const sequences = [3, ENTRIES_PER_BUCKET + 2, 2 * ENTRIES_PER_BUCKET, 3 * ENTRIES_PER_BUCKET - 1]
    for (const sequence of sequences) await target.appendEntry(id, sequence, entryOf('k', sequence))
    const found: number[] = []
    for (let after = 0, end = false; !end; ) {
      const page = await target.readOutbox(id, after, 1)
      assert.ok(page.end || page.entries.length === 1, `an empty page after ${after}`)
      for (const { sequence } of page.entries) found.push(sequence)
      after = found.at(-1)!
      end = page.end
    }
    assert.deepEqual(found, sequences)
  },

  'reading begins after a position inside a bucket that is gone, and its first bucket is never the end': async (target: Target) => {
    const id = { group: 3, lease: 'gone' }
    const next = ENTRIES_PER_BUCKET + 1
    for (const sequence of [1, 2, next]) await target.appendEntry(id, sequence, entryOf('k', sequence))
    await target.deleteBucket(id, 0)
    const expected = { entries: [{ sequence: next, entry: entryOf('k', next) }], end: true }
    for (const after of [0, 2, ENTRIES_PER_BUCKET]) assert.deepEqual(await target.readOutbox(id, after, 10), expected, `after ${after}`)
  },

  'an append that has resolved is found by the next read': async (target: Target) => {
    const id = { group: 4, lease: 'at-once' }
    for (let sequence = 1; sequence <= 20; sequence++) {
      await target.appendEntry(id, sequence, entryOf('k', sequence))
      assert.equal((await target.readOutbox(id, sequence - 1, 10)).entries[0]?.sequence, sequence)
    }
  },

  /** The forward sync sends a row's next put when the one before has resolved, many rows at once (INV-12). */
  'a partial put that has resolved is what the next one builds on': async (target: Target) => {
    const rows = Array.from({ length: 8 }, (_, n) => n)
    const steps = Array.from({ length: 6 }, (_, i) => i + 2)
    await target.putRows(rows.map((n) => numbered('9', n, 1, ['b1', 'e1'])))
    await Promise.all(
      rows.map(async (n) => {
        for (const stamp of steps)
          await target.putRows([numbered('9', n, stamp, stamp % 2 === 0 ? [`b${stamp}`, undefined] : [undefined, `e${stamp}`])])
      }),
    )
    const expected = rows.map((n) => numbered('9', n, 7, ['b6', 'e7']))
    assert.deepEqual(await target.readRows(expected), expected)
  },

  /** The stream may come before the backfill has brought the row. */
  'a partial put that was refused for want of its row is taken once the row has come': async (target: Target) => {
    const partial = numbered('9', 100, 10, ['new', undefined])
    await assert.rejects(target.putRows([partial]), { code: 'TARGET_REFUSED' })
    await target.putRows([numbered('9', 100, 1, ['old', 'kept'])])
    await target.putRows([partial])
    assert.deepEqual(await target.readRows([partial]), [numbered('9', 100, 10, ['new', 'kept'])])
  },
} as const satisfies Record<string, (target: Target) => Promise<void>>

export type CallerRule = keyof typeof CALLER_RULES
