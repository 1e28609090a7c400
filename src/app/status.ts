// Promises: one look at the move as the control schema has it, with the age of what the leader said (INV-10: old evidence is unknown).
import type { RampPlan, RampSettings } from '../canary/ramp.ts'
import type { FlipParked } from '../model/control.ts'
import { parseLsn } from '../model/ids.ts'
import type { MigrationConfig } from '../model/migration.ts'
import { backfillRanges } from '../store/backfill-ranges.ts'
import { readJudge } from '../store/judging.ts'
import { readParked } from '../store/parked.ts'
import { listPoison } from '../store/poison.ts'
import { createRamps } from '../store/ramps.ts'
import { readReport } from '../store/reports.ts'
import type { Session } from '../store/session.ts'
import { type Struck, struckStandbys } from '../store/standbys.ts'
import { countViolations, frozenSlots } from '../store/violations.ts'
import { RETAINED_BYTES } from '../store/wal-retained.ts'
import { type BackfillStanding, readStanding, stoppedSentence } from './backfill-standing.ts'
import type { JudgeStanding } from './judge-standing.ts'
import { type RampStanding, rampStanding } from './ramp-standing.ts'
import { type WalStanding, walBudgetOf, walStanding } from './wal-budget.ts'

export interface Status {
  readonly epoch: number
  readonly bindingEpoch: number | null
  readonly slots: { readonly source: number; readonly target: number; readonly inFlip: number; readonly readOnly: number }
  readonly gateways: readonly { readonly gateway: string; readonly lease: string; readonly ackedEpoch: number }[]
  readonly leader: { readonly token: number; readonly name: string; readonly reportAgeMs: number | null } | null
  readonly backfill: {
    readonly state: 'none' | 'running' | 'done' | 'stopped'
    /** It is not the first one. */
    readonly again: boolean
    /** Of `stopped`: why what it copied is not kept up to date any more. */
    readonly because: string | null
    readonly rows: number
    readonly ranges: number
    readonly rangesDone: number
  }
  readonly slot: {
    readonly walStatus: string
    readonly active: boolean
    readonly lagBytes: number
    readonly safeWalSizeBytes: number | null
    /** WAL that PostgreSQL keeps for it; null: none any more. */
    readonly retainedBytes: number | null
    readonly walBudgetBytes: number
    readonly walBudget: WalStanding
  } | null
  readonly syncs: Readonly<Record<string, unknown>> | null
  readonly judge: {
    /** What it says of itself; null: nothing lately, or it is off. */
    readonly standing: JudgeStanding | null
    /** The verdict by which the canary is off until a person starts it again. */
    readonly rolledBack: {
      readonly verdict: number
      readonly tMs: number
      readonly detector: string
      readonly about: string | null
      /** The order to go back; null: there was none to give, the end of the move had been announced. */
      readonly job: number | null
    } | null
  }
  readonly jobs: readonly { readonly id: number; readonly order: string; readonly state: string; readonly progress: unknown }[]
  /** The newest, under way or ended; null: there was none. */
  readonly ramp: RampStanding | null
  readonly openFlips: readonly { readonly id: string; readonly to: string; readonly state: string; readonly slots: number }[]
  /** Those that ended last, the newest first. */
  readonly lastFlips: readonly FlipEnded[]
  readonly poison: readonly {
    readonly key: string
    readonly slot: number
    readonly sqlstate: string
    readonly message: string
    /** It is being tried again. */
    readonly retrying: boolean
  }[]
  readonly violations: number
  /** Slots that went back while the target did not answer: compared, and paid, before the next canary. */
  readonly debts: readonly { readonly slot: number; readonly flip: string }[]
  /** Slots that PostgreSQL took a write to while the target owned them: they do not go to the target. */
  readonly frozenSlots: readonly { readonly slot: number; readonly lsn: string }[]
  /** Named standbys that were silent for too long: flips do not wait for them. */
  readonly standbysStruckOff: readonly Struck[]
  readonly readyForCanary: boolean
  readonly notReadyBecause: readonly string[]
}

export interface FlipEnded {
  readonly id: string
  readonly to: string
  readonly state: string
  readonly slots: number
  readonly startedAt: string
  /** How long the gateways held statements back for it; null: none has told (INV-10). */
  readonly parked: FlipParked | null
}

const LAST_FLIPS = 16
/** A report older than this says nothing about now. */
const REPORT_FRESH_MS = 3_000
const POISON_LISTED_MAX = 100

export async function readStatus(
  session: Session,
  slotName: string,
  source: Pick<MigrationConfig['source'], 'walBudgetBytes'> = {},
): Promise<Status> {
  const rows = async (sql: string, values: readonly unknown[] = []) => session.query(sql, values)
  const [state] = await rows('select epoch, binding_epoch from switchback.state')
  const [slots] = await rows(
    `select count(*) filter (where owner = 'source') as source, count(*) filter (where owner = 'target') as target,
            count(*) filter (where phase <> 'steady') as in_flip, count(*) filter (where read_only) as read_only from switchback.ownership`,
  )
  const leases = await rows('select gateway, id, acked_epoch from switchback.lease where not over order by gateway')
  const [leader] = await rows('select token, name from switchback.leader where token > 0')
  const report = await readReport(session)
  const fresh = report !== null && leader !== undefined && report.ageMs < REPORT_FRESH_MS && report.token === Number(leader['token'])
  const backfill = await backfillStatus(session, slotName)
  const openJobs = await rows(`select id, kind, state, progress from switchback.job where state in ('open', 'running') order by id`)
  const openFlips = await rows(
    `select id, owner_to, state, cardinality(slots) as n from switchback.flip where state not in ('cancelled', 'routed') order by number`,
  )
  const ramp = await createRamps<RampSettings, RampPlan>(session).last()
  const poison = await listPoison(session, POISON_LISTED_MAX)
  const frozen = await frozenSlots(session)
  const { judge: judging = null, ...content } = report?.content ?? {}
  const syncs = fresh ? content : null
  const { rolledBack } = await readJudge(session)
  const because = notReady({ backfill, syncs, gateways: leases.length, poison: poison.total, frozen: frozen.length })
  return {
    epoch: Number(state!['epoch']),
    bindingEpoch: state!['binding_epoch'] == null ? null : Number(state!['binding_epoch']),
    slots: {
      source: Number(slots!['source']),
      target: Number(slots!['target']),
      inFlip: Number(slots!['in_flip']),
      readOnly: Number(slots!['read_only']),
    },
    gateways: leases.map((row) => ({ gateway: row['gateway']!, lease: row['id']!, ackedEpoch: Number(row['acked_epoch']) })),
    leader:
      leader === undefined
        ? null
        : { token: Number(leader['token']), name: leader['name']!, reportAgeMs: report === null ? null : Math.round(report.ageMs) },
    backfill,
    slot: await slotStatus(session, slotName, walBudgetOf(source).budgetBytes),
    syncs,
    judge: {
      standing: fresh ? (judging as JudgeStanding | null) : null,
      rolledBack:
        rolledBack === null
          ? null
          : {
              verdict: rolledBack.id,
              tMs: rolledBack.verdict.tMs,
              detector: rolledBack.verdict.detector,
              about: rolledBack.verdict.key ?? rolledBack.verdict.evidence.statement,
              job: rolledBack.job,
            },
    },
    jobs: openJobs.map((row) => ({
      id: Number(row['id']),
      order: row['kind']!,
      state: row['state']!,
      progress: JSON.parse(row['progress']!) as unknown,
    })),
    ramp: ramp === null ? null : rampStanding(ramp),
    openFlips: openFlips.map((row) => ({ id: row['id']!, to: row['owner_to']!, state: row['state']!, slots: Number(row['n']) })),
    lastFlips: await lastFlips(session),
    poison: poison.entries.map(({ key, slot, sqlstate, message, retrying }) => ({ key, slot, sqlstate, message, retrying })),
    debts: (await rows('select slot, flip from switchback.debt order by slot')).map((row) => ({
      slot: Number(row['slot']),
      flip: row['flip']!,
    })),
    violations: await countViolations(session),
    frozenSlots: frozen,
    standbysStruckOff: await struckStandbys(session),
    readyForCanary: because.length === 0,
    notReadyBecause: because,
  }
}

function notReady(seen: {
  backfill: Status['backfill']
  syncs: Readonly<Record<string, unknown>> | null
  gateways: number
  poison: number
  frozen: number
}): string[] {
  const because: string[] = []
  if (seen.backfill.because !== null) because.push(stoppedSentence(seen.backfill.because))
  else if (seen.backfill.state !== 'done') because.push('The backfill is not done.')
  if (seen.syncs === null) because.push('No controller has said anything of its syncs in the last seconds.')
  else {
    if (seen.backfill.because !== null) {
      // Said above.
    } else if (seen.syncs['forwardLagMs'] === null) because.push('The forward sync has not begun.')
    else if (Number(seen.syncs['forwardLagMs']) > 2_000)
      because.push(`The forward sync is ${String(seen.syncs['forwardLagMs'])} ms behind.`)
    if (seen.syncs['wayBackProven'] !== true) because.push('The way back has not been proven since the controller started.')
  }
  if (seen.gateways === 0) because.push('No gateway holds a lease.')
  if (seen.poison > 0) because.push(`${seen.poison} keys could not be written back to PostgreSQL: see \`switchback poison\`.`)
  if (seen.frozen > 0) because.push(`${seen.frozen} slots are frozen: PostgreSQL took writes to them while the target owned them.`)
  return because
}

async function lastFlips(session: Session): Promise<FlipEnded[]> {
  const rows = await session.query(
    `select id, owner_to, state, cardinality(slots) as n, started_at from switchback.flip
      where state in ('cancelled', 'routed') order by number desc limit $1`,
    [LAST_FLIPS],
  )
  const ids = rows.map((row) => row['id']!)
  const parked = await readParked(session, ids)
  return rows.map((row) => ({
    id: row['id']!,
    to: row['owner_to']!,
    state: row['state']!,
    slots: Number(row['n']),
    startedAt: row['started_at']!,
    parked: parked.get(row['id']!) ?? null,
  }))
}

const STATES: Record<BackfillStanding['kind'], Status['backfill']['state']> = {
  none: 'none',
  open: 'running',
  whole: 'done',
  stopped: 'stopped',
  ended: 'done',
}

async function backfillStatus(session: Session, slotName: string): Promise<Status['backfill']> {
  const { backfill, standing } = await readStanding(session, slotName)
  const { rows, ranges, done } = backfill === null ? { rows: 0, ranges: 0, done: 0 } : await backfillRanges(session, backfill.id).totals()
  return {
    state: STATES[standing.kind],
    again: backfill?.again ?? false,
    because: standing.kind === 'stopped' ? standing.because : null,
    rows,
    ranges,
    rangesDone: done,
  }
}

async function slotStatus(session: Session, slotName: string, walBudgetBytes: number): Promise<Status['slot']> {
  const [row] = await session.query(
    `select wal_status, active, confirmed_flush_lsn, pg_current_wal_lsn() as now, safe_wal_size, ${RETAINED_BYTES} as retained
       from pg_replication_slots where slot_name = $1`,
    [slotName],
  )
  if (row === undefined) return null
  return {
    walStatus: row['wal_status'] ?? 'unknown',
    active: row['active'] === 't',
    lagBytes: row['confirmed_flush_lsn'] == null ? 0 : Number(parseLsn(row['now']!) - parseLsn(row['confirmed_flush_lsn'])),
    safeWalSizeBytes: row['safe_wal_size'] == null ? null : Number(row['safe_wal_size']),
    retainedBytes: row['retained'] == null ? null : Number(row['retained']),
    walBudgetBytes,
    walBudget: walStanding(Number(row['retained'] ?? 0), walBudgetBytes, 'within'),
  }
}
