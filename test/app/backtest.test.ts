import assert from 'node:assert/strict'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Writable } from 'node:stream'
import { after, test } from 'node:test'
import { gzipSync } from 'node:zlib'
import { runProgram } from '../../src/cli/program.ts'
import { seededRandom } from '../../src/lib/prng.ts'

const folder = mkdtempSync(join(tmpdir(), 'switchback-backtest-'))
after(() => rmSync(folder, { recursive: true }))

const START_MS = 1_800_000_000_000
const HARM_SECOND = 780

interface History {
  readonly seconds: number
  readonly seed: number
  /** From HARM_SECOND on, of the target's requests. */
  readonly slowShare?: number
  readonly errorShare?: number
  /** The target has no request from this second on. */
  readonly silentFrom?: number
  readonly canaryFrom?: number
}

/** 100 requests a second of PostgreSQL, 50 of the target; two in a hundred take 45 ms. */
function history(options: History): string {
  const { seconds, seed, slowShare = 0, errorShare = 0, silentFrom = Number.POSITIVE_INFINITY, canaryFrom = 0 } = options
  const random = seededRandom(seed)
  const lines: string[] = []
  for (let second = 0; second < seconds; second++) {
    for (let i = 0; i < 150; i++) {
      const arm = i % 3 === 0 ? 'target' : 'source'
      if (arm === 'target' && (second >= silentFrom || second < canaryFrom)) continue
      const harmed = arm === 'target' && second >= HARM_SECOND
      const usualMs = random.next() < 0.02 ? 45 : 5 + 3 * random.next()
      lines.push(
        JSON.stringify({
          tMs: START_MS + second * 1_000 + i * 6,
          arm,
          statement: 'deposit',
          key: String(random.int(1_000)),
          latencyMs: harmed && random.next() < slowShare ? 139 : usualMs,
          ok: !(harmed && random.next() < errorShare),
        }),
      )
    }
  }
  return `${lines.join('\n')}\n`
}

async function run(...args: readonly string[]) {
  let [stdout, stderr, exitCode] = ['', '', -1]
  const into = (add: (text: string) => void) =>
    new Writable({
      write(chunk: Buffer, _, done) {
        add(chunk.toString())
        done()
      },
    })
  const edge = {
    env: {},
    stdout: into((text) => {
      stdout += text
    }),
    stderr: into((text) => {
      stderr += text
    }),
    exit: (code: number) => {
      exitCode = code
    },
  }
  await runProgram(['judge', ...args], edge)
  return { exitCode, stdout, stderr, json: () => JSON.parse(stdout) }
}

function fileOf(name: string, content: string | Uint8Array): string {
  const file = join(folder, name)
  writeFileSync(file, content)
  return file
}

const bad = fileOf('bad.jsonl', history({ seconds: 1_200, seed: 1, slowShare: 0.03 }))

test('a tail that grew on the target is a rollback, seconds after it began, with its evidence; the rest of the trace is read', async () => {
  const { exitCode, json } = await run('backtest', bad, '--json')
  const { requests, spanMs, verdicts, ok, skipped } = json()
  assert.equal(exitCode, 1)
  assert.deepEqual(
    [requests, Math.round(spanMs / 1_000), ok, skipped],
    [180_000, 1_200, false, { notJson: 0, invalid: 0, late: 0, torn: 0 }],
  )
  assert.deepEqual(
    [verdicts.length, verdicts[0].act, verdicts[0].detector, verdicts[0].evidence.statement],
    [1, 'rollback', 'tail', 'deposit'],
  )
  const delaySeconds = (verdicts[0].tMs - START_MS) / 1_000 - HARM_SECOND
  assert.ok(delaySeconds > 0 && delaySeconds <= 120, `${delaySeconds} s`)
  assert.ok(verdicts[0].evidence.level >= verdicts[0].evidence.threshold)
})

test('people read when, by what, and what would have been done', async () => {
  const { exitCode, stdout } = await run('backtest', bad)
  assert.equal(exitCode, 1)
  assert.match(stdout, /^8\d\d s in \(2027-01-15T08:1\d:\d\d\.000Z\): rollback by tail of deposit: the traffic would have gone back/m)
  assert.match(stdout, /last block, \d s: over 5\d(\.\d)? ms were \d+ of \d+ requests of the canary, 0 of \d+ of control$/m)
  assert.match(stdout, /canary \d+ requests, p50 6\.\d+ ms, p99 4\d\.\d ms; control \d+ requests/)
  assert.match(stdout, /^180000 requests judged \(120000 of PostgreSQL, 60000 of the target\) over 1200 s\.$/m)
})

test('a history in which nothing is wrong with the target has no verdict, also packed', async () => {
  const good = fileOf('good.jsonl.gz', gzipSync(history({ seconds: 1_200, seed: 2 })))
  const { exitCode, json } = await run('backtest', good, '--json')
  assert.deepEqual([exitCode, json().ok, json().verdicts, json().inconclusive], [0, true, [], []])
  const { stdout } = await run('backtest', good)
  assert.match(stdout, /The traffic would have stayed where it was: no rollback\./)
})

test('what is slower but within the bound that the user gives is no regression', async () => {
  assert.equal((await run('backtest', bad, '--slo-ms', '200', '--json')).exitCode, 0)
})

test('errors that only the target has are found in seconds', async () => {
  const { exitCode, json } = await run('backtest', fileOf('errors.jsonl', history({ seconds: 800, seed: 3, errorShare: 0.05 })), '--json')
  const [verdict] = json().verdicts
  assert.deepEqual([exitCode, verdict.act, verdict.evidence.statement], [1, 'rollback', 'deposit'])
  assert.match(verdict.detector, /^error/)
  assert.ok((verdict.tMs - START_MS) / 1_000 - HARM_SECOND <= 15, `${verdict.tMs - START_MS}`)
})

test('a target that falls silent goes back after the bounded time, although no line says so (INV-10)', async () => {
  const silent = history({ seconds: 700, seed: 4, silentFrom: 650 })
  // The whole trace has a gap: nobody measured.
  const later = history({ seconds: 1, seed: 4 }).replaceAll(String(START_MS).slice(0, 6), '180001')
  const { exitCode, json } = await run('backtest', fileOf('silent.jsonl', silent + later), '--json')
  const [verdict] = json().verdicts
  assert.deepEqual([exitCode, json().verdicts.length, verdict.act, verdict.detector], [1, 1, 'rollback', 'silence'])
  assert.equal((verdict.tMs - START_MS) / 1_000, 710)
})

test('before there is a canary, a gap is none of its silence', async () => {
  const early = history({ seconds: 60, seed: 5, canaryFrom: 60 })
  const later = history({ seconds: 30, seed: 5 }).replaceAll(String(START_MS).slice(0, 6), '180001')
  const { exitCode, json } = await run('backtest', fileOf('early.jsonl', early + later), '--json')
  assert.deepEqual([exitCode, json().verdicts], [3, []])
  assert.match(json().inconclusive[0], /^no latency was judged: tail: control was watched for \d+ of 600 s/)
})

test('without a canary, without control, or with many lines skipped, no rollback is no answer (INV-10)', async () => {
  const lines = history({ seconds: 20, seed: 6 }).split('\n')
  const doubts = async (name: string, some: readonly string[]) => {
    const { exitCode, json } = await run('backtest', fileOf(name, some.join('\n')), '--json')
    assert.equal(exitCode, 3)
    return json().inconclusive.join('; ')
  }
  assert.match(
    await doubts(
      'no-canary',
      lines.filter((line) => line.includes('"source"')),
    ),
    /no request was of the target/,
  )
  assert.match(
    await doubts(
      'no-control',
      lines.filter((line) => line.includes('"target"')),
    ),
    /no request was of PostgreSQL/,
  )
  assert.match(
    await doubts(
      'skipped',
      lines.flatMap((line) => [line, '{}']),
    ),
    /3001 of 6001 lines were skipped/,
  )
  assert.match(await doubts('empty', []), /no request was of the target/)
})

test('what cannot be read or judged is one clear error, and nothing on standard output but it', async () => {
  const arm = await run('backtest', fileOf('arm.jsonl', history({ seconds: 1, seed: 7 }).replace('"target"', '"canary"')), '--json')
  assert.deepEqual([arm.exitCode, arm.json().error.code], [2, 'TRACE_INVALID'])
  assert.match(arm.json().error.message, /line 1: arm is "canary"/)
  assert.equal((await run('backtest', join(folder, 'none'), '--json')).json().error.code, 'FILE_UNREADABLE')
  assert.equal((await run('backtest', bad, '--slo-ms', '0', '--json')).json().error.code, 'USAGE')
})

test('the evidence of a rollback, judged again, is the same verdict; changed, it is not', async () => {
  const file = join(folder, 'evidence.jsonl')
  const { json } = await run('backtest', bad, '--evidence', file, '--json')
  const again = await run('recheck', file, '--json')
  assert.deepEqual([again.exitCode, again.json().ok, again.json().recorded], [0, true, json().verdicts[0]])
  assert.deepEqual(again.json().again, again.json().recorded)
  const text = readFileSync(file, 'utf8')
  assert.ok(text.length < 3_000_000, `${text.length} characters`)
  assert.equal((await run('recheck', fileOf('packed.gz', gzipSync(text)))).exitCode, 0)
  // Half of the last minutes' spans taken away.
  const lines = text.trimEnd().split('\n')
  const thinned = await run('recheck', fileOf('thinned', `${[...lines.slice(0, -60), lines.at(-1)].join('\n')}\n`))
  assert.equal(thinned.exitCode, 1)
  assert.match(thinned.stdout, /Again: nothing would be done\.\nNOT the same verdict/)
  // Another threshold.
  assert.equal((await run('recheck', fileOf('lax', text.replace('"stepsPerFalseAlarm":1000000', '"stepsPerFalseAlarm":1e30')))).exitCode, 1)
})

test('evidence that was cut off or is none is one clear error, never a verdict', async () => {
  const file = join(folder, 'whole.jsonl')
  await run('backtest', bad, '--evidence', file)
  const text = readFileSync(file, 'utf8')
  const lines = text.trimEnd().split('\n')
  const cases = {
    torn: [text.slice(0, -20), /ends in the middle of a line/],
    headless: [`${lines.slice(1).join('\n')}\n`, /line 1: this is no head/],
    unsaid: [`${lines.slice(0, -1).join('\n')}\n`, /the verdict is missing/],
    mixed: [text.replace(lines[5]!, '7'), /line 6: this is no JSON object/],
    stateless: [text.replace('"state":{', '"states":{'), /line 2: this is no evidence/],
    empty: ['', /ends in the middle|no head/],
  } as const
  for (const [name, [content, says]] of Object.entries(cases)) {
    const { exitCode, json } = await run('recheck', fileOf(name, content), '--json')
    assert.deepEqual([exitCode, json().error.code], [2, 'EVIDENCE_INVALID'], name)
    assert.match(json().error.message, says)
  }
})
