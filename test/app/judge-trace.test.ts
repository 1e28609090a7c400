import assert from 'node:assert/strict'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { gzipSync } from 'node:zlib'
import fc from 'fast-check'
import {
  OTHER_STATEMENTS,
  REORDER_MS,
  TRACE_LINE_CHARACTERS_MAX,
  TRACE_STATEMENTS_MAX,
  TraceReader,
  type TraceSecond,
  type TraceTotals,
  traceSeconds,
} from '../../src/app/judge-trace.ts'
import { openTextFile } from '../../src/app/trace-file.ts'
import { latenciesOf } from '../../src/canary/latencies.ts'
import { seededRandom } from '../../src/lib/prng.ts'

const SEED = Number(process.env['SEED'] ?? Date.now() % 1_000_000)
const folder = mkdtempSync(join(tmpdir(), 'switchback-trace-'))
after(() => rmSync(folder, { recursive: true }))

const request = (tMs: number, more: object = {}): string =>
  JSON.stringify({ tMs, arm: 'source', statement: 'deposit', key: 'k', latencyMs: 5, ok: true, ...more })

function read(...texts: readonly string[]): { readonly seconds: readonly TraceSecond[]; readonly totals: TraceTotals } {
  const reader = new TraceReader({ file: 'a.jsonl' })
  const seconds = [...texts.flatMap((text) => reader.push(text)), ...reader.end()]
  return { seconds, totals: reader.totals() }
}

async function readFile(name: string, content: string | Uint8Array) {
  const file = join(folder, name)
  writeFileSync(file, content)
  const reader = new TraceReader({ file })
  const { texts, torn } = openTextFile(file, new AbortController().signal)
  const seconds: TraceSecond[] = []
  for await (const second of traceSeconds(reader, texts, torn)) seconds.push(second)
  return { seconds, totals: reader.totals() }
}

const arm = (latenciesMs: readonly number[], errors = 0) => ({
  requests: latenciesMs.length,
  errors,
  wrongWrites: 0,
  latencies: latenciesOf(latenciesMs),
})
const NO_SKIPS = { notJson: 0, invalid: 0, late: 0, torn: 0 }

test("requests become both arms' counts of each second, by statement; the target is the canary", () => {
  const lines = [
    request(10_000),
    request(10_500, { arm: 'target', latencyMs: 7.5, ok: false }),
    request(10_999, { statement: 'transfer', key: 12 }),
    request(12_000, { latencyMs: 6 }),
  ]
  const { seconds, totals } = read(`${lines.join('\n')}\n`)
  assert.deepEqual(seconds, [
    {
      fromMs: 10_000,
      statements: { deposit: { canary: arm([7.5], 1), control: arm([5]) }, transfer: { canary: arm([]), control: arm([5]) } },
    },
    { fromMs: 12_000, statements: { deposit: { canary: arm([]), control: arm([6]) } } },
  ])
  assert.deepEqual(totals, { lines: 4, requests: 4, byArm: { source: 3, target: 1 }, spanMs: 2_000, skipped: NO_SKIPS })
})

test('wherever the text is cut into parts, the seconds are the same; no request is lost or doubled', () => {
  const random = seededRandom(SEED)
  const lines = Array.from({ length: 60 }, (_, i) =>
    request(i * 5_000 + random.int(9_000), { key: 'é\\"', arm: i % 3 === 0 ? 'target' : 'source' }),
  )
  const text = lines.join('\r\n')
  const whole = read(text)
  assert.deepEqual([whole.totals.requests, whole.totals.skipped], [60, NO_SKIPS])
  fc.assert(
    fc.property(fc.array(fc.nat(text.length), { maxLength: 8 }), (cuts) => {
      const at = [0, ...cuts.toSorted((a, b) => a - b), text.length]
      assert.deepEqual(read(...at.slice(1).map((to, i) => text.slice(at[i]!, to))), whole)
    }),
    { seed: SEED },
  )
})

test('in whatever order the requests of a minute come, their seconds are the same, and rise', () => {
  const times = fc.array(fc.integer({ min: 0, max: REORDER_MS - 1 }), { minLength: 1, maxLength: 50 })
  fc.assert(
    fc.property(times, (all) => {
      const inOrder = read(
        all
          .toSorted((a, b) => a - b)
          .map((tMs) => request(tMs))
          .join('\n'),
      )
      // The reader is asked for closed seconds after each line.
      const asWritten = read(...all.map((tMs) => `${request(tMs)}\n`))
      assert.deepEqual(asWritten.seconds, inOrder.seconds)
      assert.deepEqual(asWritten.totals, inOrder.totals)
      for (const [i, { fromMs }] of asWritten.seconds.entries()) assert.ok(i === 0 || fromMs > asWritten.seconds[i - 1]!.fromMs)
    }),
    { seed: SEED },
  )
})

test('a time that goes back further than a minute is skipped and counted, and moves nothing', () => {
  const lines = [request(100_000), request(100_000 - REORDER_MS), request(100_000 - REORDER_MS - 1), request(100_001)]
  const { seconds, totals } = read(...lines.map((line) => `${line}\n`))
  assert.deepEqual(totals, {
    lines: 4,
    requests: 3,
    byArm: { source: 3, target: 0 },
    spanMs: REORDER_MS + 1,
    skipped: { ...NO_SKIPS, late: 1 },
  })
  assert.deepEqual(
    seconds.map(({ fromMs }) => fromMs),
    [40_000, 100_000],
  )
})

test('what is no request is skipped, and counted by its reason', () => {
  const bad = {
    notJson: ['{"tMs": NaN}', 'tMs=5', '[1]', '7', 'null', `${request(1)}${request(2)}`],
    invalid: [
      '{}',
      request(-1),
      request(5, { tMs: null }),
      request(5, { tMs: '5' }),
      request(5, { latencyMs: -1 }),
      request(5, { latencyMs: null }),
      request(5).replace('"latencyMs":5', '"latencyMs":1e999'),
      request(5, { ok: 1 }),
      request(5, { statement: 7 }),
      request(5, { key: null }),
    ],
  }
  const { totals } = read([request(1), ...bad.notJson, '', ' \r', ...bad.invalid, request(2)].join('\n'))
  assert.deepEqual(totals.skipped, { notJson: bad.notJson.length, invalid: bad.invalid.length, late: 0, torn: 0 })
  assert.deepEqual([totals.requests, totals.lines], [2, 2 + bad.notJson.length + bad.invalid.length])
})

test('a last line that ends in the middle is torn; one that only lacks its end is a request', () => {
  const text = `${request(1)}\n${request(2)}`
  assert.deepEqual(read(text).totals.requests, 2)
  assert.deepEqual([read(text.slice(0, -1)).totals.requests, read(text.slice(0, -1)).totals.skipped], [1, { ...NO_SKIPS, torn: 1 }])
})

test('an arm that is none, a file of something else, and a line without an end are one clear error that names the line', () => {
  const thrown = (...texts: readonly string[]) => {
    try {
      read(...texts)
    } catch (error) {
      return (error as Error).message
    }
    return null
  }
  assert.equal(
    thrown(`${request(1)}\n${request(2, { arm: 'canary' })}\n`),
    'a.jsonl is no trace that can be judged: line 2: arm is "canary", not "source" or "target"',
  )
  assert.match(thrown('line\n'.repeat(100))!, /line 100: not one of the first 100 lines is a request/)
  assert.equal(thrown(`${request(1)}\n${'line\n'.repeat(200)}`), null)
  assert.match(thrown('x'.repeat(TRACE_LINE_CHARACTERS_MAX + 1))!, /line 1: a line of more than 1048576 characters/)
})

test('statements beyond those that are told apart are one together, whatever their names', () => {
  const names = ['__proto__', OTHER_STATEMENTS, ...Array.from({ length: TRACE_STATEMENTS_MAX + 5 }, (_, i) => `s${i}`)]
  const { seconds, totals } = read([...names, ...names].map((statement) => request(1, { statement })).join('\n'))
  const told = Object.entries(seconds[0]!.statements)
  assert.deepEqual([told.length, totals.requests], [TRACE_STATEMENTS_MAX + 1, 2 * names.length])
  assert.deepEqual(told[0], ['__proto__', { canary: arm([]), control: arm([5, 5]) }])
  const requests = told.map(([, { control }]) => control.requests)
  assert.equal(
    requests.reduce((sum, one) => sum + one, 0),
    2 * names.length,
  )
})

test('an empty trace has no second and no request', () => {
  for (const text of ['', '\n\n'])
    assert.deepEqual(read(text), {
      seconds: [],
      totals: { lines: 0, requests: 0, byArm: { source: 0, target: 0 }, spanMs: 0, skipped: NO_SKIPS },
    })
})

const many = Array.from({ length: 20_000 }, (_, i) =>
  request(i * 10, { arm: i % 2 === 0 ? 'source' : 'target', latencyMs: (i * 7919) % 1000, key: `ключ ${i}` }),
).join('\n')

test('a file is read the same plain and packed, whatever its name', async () => {
  const plain = await readFile('plain.gz', `${many}\n`)
  assert.deepEqual([plain.totals.requests, plain.totals.skipped, plain.seconds.length], [20_000, NO_SKIPS, 200])
  assert.deepEqual(await readFile('packed.jsonl', gzipSync(`${many}\n`)), plain)
})

test('a packed file that was cut off is read up to there, and told as torn; one that is broken is refused', async () => {
  const packed = gzipSync(`${many}\n`)
  const cut = await readFile('cut.gz', packed.subarray(0, Math.floor(packed.length * 0.7)))
  assert.ok(cut.totals.requests > 10_000 && cut.totals.requests < 20_000)
  assert.deepEqual(cut.totals.skipped, { ...NO_SKIPS, torn: 1 })
  // All of the text is there, the checksum behind it is not.
  const unsealed = await readFile('unsealed.gz', packed.subarray(0, packed.length - 4))
  assert.deepEqual([unsealed.totals.requests, unsealed.totals.skipped], [20_000, { ...NO_SKIPS, torn: 1 }])
  const broken = Uint8Array.from(packed)
  broken.fill(0xff, 1_000, 1_100)
  await assert.rejects(readFile('broken.gz', broken), { code: 'FILE_UNREADABLE' })
})

test('a file that is not there, or is a folder, is one clear error; a stop ends the reading', async () => {
  const drain = async (file: string, signal = new AbortController().signal) => {
    for await (const _ of openTextFile(file, signal).texts) void _
  }
  await assert.rejects(drain(join(folder, 'none')), { code: 'FILE_UNREADABLE', message: /none cannot be read: it is not there/ })
  await assert.rejects(drain(folder), { code: 'FILE_UNREADABLE', message: /it is a folder/ })
  writeFileSync(join(folder, 'some'), many)
  await assert.rejects(drain(join(folder, 'some'), AbortSignal.abort()), { name: 'AbortError' })
})
