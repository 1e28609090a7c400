// Promises: what PostgreSQL has of the judge's rollbacks and of all moves, as judge-check.ts takes it.
import type { FlipSeen, JournalSeen, JudgeRows, MoveSeen, VerdictSeen } from './judge-check.ts'

type Query = (sql: string) => Promise<Record<string, string>[]>

const epochMs = (time: string) => `extract(epoch from ${time}) * 1000`

const VERDICTS = `select json_build_object('id', v.id, 'atMs', ${epochMs('v.at')}, 'detector', v.detector,
    'hasEvidence', v.evidence is not null, 'reportWhole', coalesce((v.report ->> 'whole')::boolean, false),
    'offMs', (v.report ->> 'verdictToOffMs')::double precision)::text as row
  from switchback.verdict v where v.act = 'rollback' order by v.id`
const JOURNAL = `select json_build_object('atMs', ${epochMs('j.at')}, 'kind', j.kind, 'flip', j.flip,
    'verdict', (j.detail ->> 'verdict')::bigint, 'ended', j.detail ->> 'state')::text as row
  from switchback.journal j where j.kind in ('verdict', 'canary again', 'commit', 'finish') order by j.id`
const FLIPS = `select json_build_object('id', f.id, 'to', f.owner_to, 'slots', f.slots)::text as row from switchback.flip f`
const MOVES = `select json_build_object('id', b.id, 'to', b.arguments ->> 'to', 'verdict', (b.arguments ->> 'verdict')::bigint,
    'state', b.state, 'leftSlots', coalesce(jsonb_array_length(b.result -> 'held'), 0), 'orderedMs', ${epochMs('b.ordered_at')}, 'endedMs', ${epochMs('b.ended_at')})::text as row
  from switchback.job b where b.kind = 'move' order by b.id`

export async function readJudgeRows(query: Query): Promise<JudgeRows> {
  const read = async <Row>(sql: string) => (await query(sql)).map(({ row }) => JSON.parse(row!) as Row)
  return {
    verdicts: await read<VerdictSeen>(VERDICTS),
    journal: await read<JournalSeen>(JOURNAL),
    flips: await read<FlipSeen>(FLIPS),
    moves: await read<MoveSeen>(MOVES),
  }
}

export async function rollbacksSoFar(query: Query): Promise<number> {
  return Number((await query(`select count(*)::text as n from switchback.verdict where act = 'rollback'`))[0]!['n'])
}

/** Something is on the target, and the judge has not turned it back. */
export async function isCanaryOut(query: Query): Promise<boolean> {
  const [row] = await query(
    `select (j.rolled_back is null and exists (select from switchback.ownership o where o.owner = 'target'))::text as out
       from switchback.judge j`,
  )
  return row!['out'] === 'true'
}

export async function isAllReported(query: Query): Promise<boolean> {
  const [row] = await query(
    `select count(*)::text as n from switchback.verdict v
      where v.act = 'rollback' and not coalesce((v.report ->> 'whole')::boolean, false)`,
  )
  return row!['n'] === '0'
}
