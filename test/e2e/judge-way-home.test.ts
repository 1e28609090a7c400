// The judge's way home: all of the canary in one flip, however many slots a flip has otherwise; and what holds up one slot keeps no other
// batch from going.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { placeOrder } from '../../src/app/place-order.ts'
import { hashSlotOf } from '../../src/model/key.ts'
import type { JudgeOptions } from '../../src/model/migration.ts'
import { createJobs, type Job } from '../../src/store/jobs.ts'
import { listVerdicts } from '../../src/store/judging.ts'
import type { FaultHook } from '../../src/targets/memory/faults.ts'
import { eventually } from '../support/eventually.ts'
import { type Move, startMove } from '../support/move.ts'

const SLOTS_PER_FLIP = 16
const CANARY = Array.from({ length: 128 }, (_, i) => i * 32)
/** Home goes by number. */
const FIRST_BATCH = new Set(CANARY.slice(0, SLOTS_PER_FLIP))
const ACCOUNTS = 4_000
const SQL = `
  create table notes (account bigint primary key, n int not null default 0);
  insert into notes select a, 0 from generate_series(1, ${ACCOUNTS}) a;
`

async function canaryOut(judge: JudgeOptions, faults?: FaultHook): Promise<Move> {
  const move = await startMove({
    sql: SQL,
    tables: { 'public.notes': { partitionKey: 'account' } },
    judge,
    ...(faults === undefined ? {} : { faults }),
    controller: { slotsPerFlip: SLOTS_PER_FLIP, flipDeadlineMs: 1_500 },
  })
  const job = await placeOrder(
    move.session,
    { kind: 'move', to: 'target', slots: CANARY, readOnlyFirst: false },
    () => undefined,
    AbortSignal.timeout(60_000),
  )
  assert.equal(job.state, 'done', JSON.stringify(job.result))
  assert.equal((job.result!['flips'] as unknown[]).length, CANARY.length / SLOTS_PER_FLIP)
  return move
}

const onTarget = async (move: Move) =>
  (await move.session.query(`select slot from switchback.ownership where owner = 'target'`)).map((row) => Number(row['slot']))

async function orderOfVerdict(move: Move): Promise<number> {
  return eventually(async () => (await listVerdicts(move.session, 1))[0]?.job ?? false, 'a verdict', 30_000)
}

async function carriedOut(move: Move, id: number): Promise<Job> {
  return eventually(
    async () => {
      const now = await createJobs(move.session).read(id)
      return now?.state === 'done' && now
    },
    'the order is carried out',
    30_000,
  )
}

test('by verdict all of the canary goes home in one flip', { timeout: 120_000 }, async () => {
  // Nobody asks for the canary: the verdict is silence.
  await using move = await canaryOut({ silenceMs: 3_000 })
  const id = await orderOfVerdict(move)
  const job = await carriedOut(move, id)
  const flips = job.result!['flips'] as { readonly slots: number }[]
  assert.deepEqual([flips.map(({ slots }) => slots), await onTarget(move)], [[CANARY.length], []])
})

test('a commit that the target is slow with keeps its own batch, and no other, from going home by verdict', {
  timeout: 120_000,
}, async () => {
  let held = false
  // Longer than two flips may take, shorter than a commit may.
  const faults: FaultHook = (operation) => {
    if (held || operation !== 'putRows') return undefined
    held = true
    return { kind: 'delay', delayMs: 4_000 }
  }
  await using move = await canaryOut({ enabled: false }, faults)
  const account = Array.from({ length: ACCOUNTS }, (_, i) => i + 1).find((id) => FIRST_BATCH.has(hashSlotOf(String(id))))!
  held = false
  const client = await move.client()
  const writing = client.query('update notes set n = 7 where account = $1', [account])
  await eventually(() => held, 'the commit is under way')
  // As a verdict places it.
  const order = { kind: 'move', to: 'source', slots: CANARY, readOnlyFirst: false, by: 'judge', verdict: 1 } as const
  const job = await placeOrder(move.session, order, () => undefined, AbortSignal.timeout(60_000))
  await writing
  assert.equal(job.state, 'done', JSON.stringify(job.result))
  const flips = job.result!['flips'] as { readonly id: string; readonly slots: number }[]
  const [last] = await move.session.query('select slots from switchback.flip where id = $1', [flips.at(-1)!.id])
  assert.deepEqual(
    flips.map(({ slots }) => slots),
    Array.from({ length: CANARY.length / SLOTS_PER_FLIP }, () => SLOTS_PER_FLIP),
  )
  assert.ok(JSON.parse(last!['slots']!.replace('{', '[').replace('}', ']')).includes(hashSlotOf(String(account))), 'it went last')
  const { rows } = await move.database.query('select n from notes where account = $1', [account])
  assert.deepEqual([rows, await onTarget(move)], [[{ n: 7 }], []])
})
