// Promises: what the judge leaves in PostgreSQL: its state, its verdicts, their evidence and reports. The leader's acts carry its token;
// anybody may read.
import type { JudgeVerdict } from '../model/judge-verdict.ts'
import type { Session, TextRow } from './session.ts'

export interface JudgeRow {
  readonly format: string
  /** Null: nothing has been saved yet. */
  readonly state: string | null
  /** The verdict by which the canary is off. */
  readonly rolledBack: RolledBack | null
  /** Keys that people may not see have names made with it. */
  readonly secret: Uint8Array
}

export interface RolledBack {
  readonly id: number
  readonly verdict: JudgeVerdict
  /** The order to go back; null: the end of the move on the target had been announced. */
  readonly job: number | null
}

export interface VerdictRow {
  readonly id: number
  /** By PostgreSQL's clock. */
  readonly at: string
  readonly verdict: JudgeVerdict
  readonly hasEvidence: boolean
  readonly job: number | null
  /** How often the order was placed. */
  readonly orders: number
  readonly offAt: string | null
  readonly report: Readonly<Record<string, unknown>> | null
}

export interface Saved {
  readonly format: string
  readonly state: string
}

export interface Recording extends Saved {
  readonly verdict: JudgeVerdict
  /** Of a rollback. */
  readonly evidence: string | null
  readonly evidenceFilesMax: number
}

export interface Recorded {
  /** Null: it was recorded before, and turned nothing back. */
  readonly id: number | null
  readonly job: number | null
  /** Moves to the target, and a finalize, that were held. */
  readonly held: number
}

export interface JudgeStore {
  read(): Promise<JudgeRow>
  save(saved: Saved): Promise<void>
  record(recording: Recording): Promise<Recorded>
  startAgain(saved: Saved): Promise<void>
  /** The order of a verdict once more; null: not needed, or not now. */
  orderHomeAgain(verdict: number): Promise<number | null>
  saveReport(verdict: number, of: { readonly offAt: string | null; readonly report: Readonly<Record<string, unknown>> }): Promise<void>
}

export function createJudgeStore(session: Session, token: number): JudgeStore {
  return {
    read: () => readJudge(session),
    async save({ format, state }) {
      await session.query('select switchback.save_judge($1, $2, $3)', [token, format, state])
    },
    async record({ verdict, evidence, evidenceFilesMax, format, state }) {
      const [row] = await session.query('select r.verdict_id, r.job_id, r.held from switchback.record_verdict($1, $2, $3, $4, $5, $6) r', [
        token,
        JSON.stringify(verdict),
        evidence,
        format,
        state,
        evidenceFilesMax,
      ])
      return { id: numberOf(row!['verdict_id']), job: numberOf(row!['job_id']), held: Number(row!['held']) }
    },
    async startAgain({ format, state }) {
      await session.query('select switchback.start_again($1, $2, $3)', [token, format, state])
    },
    async orderHomeAgain(verdict) {
      const [row] = await session.query('select switchback.order_home_again($1, $2) as job', [token, verdict])
      return numberOf(row!['job'])
    },
    async saveReport(verdict, { offAt, report }) {
      await session.query('select switchback.save_report($1, $2, $3, $4)', [token, verdict, offAt, JSON.stringify(report)])
    },
  }
}

export async function readJudge(session: Session): Promise<JudgeRow> {
  const [row] = await session.query(
    `select j.format, j.state, encode(j.secret, 'hex') as secret, j.rolled_back, v.verdict, v.job
       from switchback.judge j left join switchback.verdict v on v.id = j.rolled_back`,
  )
  const rolledBack = numberOf(row!['rolled_back'])
  return {
    format: row!['format']!,
    state: row!['state'] ?? null,
    secret: Buffer.from(row!['secret']!, 'hex'),
    rolledBack:
      rolledBack === null || row!['verdict'] == null
        ? null
        : { id: rolledBack, verdict: JSON.parse(row!['verdict']) as JudgeVerdict, job: numberOf(row!['job']) },
  }
}

const COLUMNS = `v.id, v.at, v.verdict, v.evidence is not null as has_evidence, v.job, v.orders, v.off_at, v.report`

/** The newest first. */
export async function listVerdicts(session: Session, most: number): Promise<readonly VerdictRow[]> {
  return (await session.query(`select ${COLUMNS} from switchback.verdict v order by v.id desc limit $1`, [most])).map(verdictOf)
}

/** Null: there is none of this number; without a number, no rollback. */
export async function readVerdict(session: Session, id: number | null): Promise<VerdictRow | null> {
  const [row] = await session.query(
    `select ${COLUMNS} from switchback.verdict v where case when $1::bigint is null then v.act = 'rollback' else v.id = $1 end
      order by v.id desc limit 1`,
    [id],
  )
  return row === undefined ? null : verdictOf(row)
}

export async function readEvidence(session: Session, id: number): Promise<string | null> {
  const [row] = await session.query('select v.evidence from switchback.verdict v where v.id = $1', [id])
  return row?.['evidence'] ?? null
}

/** Rollbacks of which not all has been found out. */
export async function unreportedVerdicts(session: Session, most: number): Promise<readonly VerdictRow[]> {
  const rows = await session.query(
    `select ${COLUMNS} from switchback.verdict v
      where v.act = 'rollback' and (v.report is null or not (v.report ->> 'whole')::boolean) order by v.id desc limit $1`,
    [most],
  )
  return rows.map(verdictOf)
}

function verdictOf(row: TextRow): VerdictRow {
  return {
    id: Number(row.id),
    at: row['at']!,
    verdict: JSON.parse(row['verdict']!) as JudgeVerdict,
    hasEvidence: row['has_evidence'] === 't',
    job: numberOf(row['job']),
    orders: Number(row['orders']),
    offAt: row['off_at'] ?? null,
    report: row['report'] == null ? null : (JSON.parse(row['report']) as Record<string, unknown>),
  }
}

function numberOf(text: string | null | undefined): number | null {
  return text == null ? null : Number(text)
}
