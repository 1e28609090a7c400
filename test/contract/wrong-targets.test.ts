// Wrong targets, each with one rule of the contract broken: a suite that let one pass would prove nothing of a right one.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { bucketOf, ENTRIES_PER_BUCKET } from '../../src/model/head.ts'
import type { OutboxPage, Target } from '../../src/model/target.ts'
import { MemoryTarget } from '../../src/targets/memory/memory-target.ts'
import { CALLER_RULES, type CallerRule } from './caller-rules.ts'
import { contractMapping } from './contract-mapping.ts'

/** Wraps some operations; the others stay. */
function over(target: Target, changed: Partial<Target>): Target {
  return new Proxy(target, {
    get: (_, name: keyof Target) => {
      const value = changed[name] ?? target[name]
      return typeof value === 'function' ? value.bind(target) : value
    },
  })
}

const upTo = (page: OutboxPage, last: number): OutboxPage => ({
  entries: page.entries.filter(({ sequence }) => sequence <= last),
  end: true,
})

const WRONG: Record<CallerRule, Record<string, (target: Target) => Target>> = {
  'an outbox is read past every hole that its writer may leave, wherever reading begins': {
    'takes the first bucket, when nothing is left of it, for the end': (target) =>
      over(target, {
        async readOutbox(id, after, limit) {
          const page = await target.readOutbox(id, after, limit)
          const isFirstEmpty = page.entries.every(({ sequence }) => bucketOf(sequence) !== bucketOf(after + 1))
          return isFirstEmpty ? { entries: [], end: true } : page
        },
      }),
    'takes a long hole for the end': (target) =>
      over(target, {
        async readOutbox(id, after, limit) {
          const page = await target.readOutbox(id, after, limit)
          return (page.entries[0]?.sequence ?? 0) > after + 256 ? { entries: [], end: true } : page
        },
      }),
  },
  'an outbox ends only where nothing is left, page by page, and no page before the end is empty': {
    'calls the end of a bucket the end': (target) =>
      over(target, {
        async readOutbox(id, after, limit) {
          const page = await target.readOutbox(id, after, limit)
          const first = page.entries[0]?.sequence ?? 0
          const last = (bucketOf(first) + 1) * ENTRIES_PER_BUCKET
          return page.end || (await target.readOutbox(id, first, 1)).entries[0]!.sequence <= last ? page : upTo(page, last)
        },
      }),
    'gives an empty page for an empty stretch': (target) =>
      over(target, {
        async readOutbox(id, after, limit) {
          const page = await target.readOutbox(id, after, limit)
          return (page.entries[0]?.sequence ?? 0) > after + 256 ? { entries: [], end: false } : page
        },
      }),
  },
  'reading begins after a position inside a bucket that is gone, and its first bucket is never the end': {
    'stops at a bucket that is gone': (target) => {
      const gone = new Set<number>()
      return over(target, {
        deleteBucket(id, bucket) {
          gone.add(bucket)
          return target.deleteBucket(id, bucket)
        },
        async readOutbox(id, after, limit) {
          return gone.has(bucketOf(after + 1)) ? { entries: [], end: true } : target.readOutbox(id, after, limit)
        },
      })
    },
  },
  'an append that has resolved is found by the next read': {
    'resolves an append before it is there': (target) =>
      over(target, {
        async appendEntry(id, sequence, entry) {
          setImmediate(() => void target.appendEntry(id, sequence, entry))
        },
      }),
  },
  'a partial put that has resolved is what the next one builds on': {
    'resolves a put before it is there': (target) =>
      over(target, {
        async putRows(rows) {
          if (rows.length > 1) return target.putRows(rows)
          const merged = rows[0]!.stamp % 2n === 0n
          if (!merged) return target.putRows(rows)
          setImmediate(() => void target.putRows(rows).catch(() => undefined))
        },
      }),
    'sets the cells that were left out to null': (target) =>
      over(target, {
        putRows: (rows) =>
          target.putRows(rows.map((row) => ({ ...row, values: row.values?.map((cell) => (cell === undefined ? null : cell)) ?? null }))),
      }),
  },
  'a partial put that was refused for want of its row is taken once the row has come': {
    'makes up a row for it': (target) =>
      over(target, {
        putRows: (rows) =>
          target
            .putRows(rows)
            .catch(() => target.putRows(rows.map((row) => ({ ...row, values: row.values!.map((cell) => cell ?? null) })))),
      }),
    'remembers the refusal as a tombstone': (target) =>
      over(target, {
        putRows: (rows) =>
          target.putRows(rows).catch(async (error: unknown) => {
            await target.putRows(rows.map((row) => ({ ...row, values: null })))
            throw error
          }),
      }),
  },
}

const opened = async () => {
  const target = new MemoryTarget()
  await target.prepare(contractMapping('wrong'))
  return target
}

for (const [rule, targets] of Object.entries(WRONG)) {
  for (const [what, wrong] of Object.entries(targets)) {
    test(`a target that ${what} is found out by "${rule}"`, async () => {
      const check = CALLER_RULES[rule as CallerRule]
      await assert.rejects(check(wrong(await opened())), assert.AssertionError)
      await check(await opened())
    })
  }
}
