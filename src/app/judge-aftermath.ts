// Promises: what follows a rollback by verdict, whoever leads by then: an order that ended and left keys on the target is given again, some
// times; and when the traffic is home both stores are compared and the report is written.
import { setImmediate as nextTurn } from 'node:timers/promises'
import type { Logger } from 'pino'
import { onsetMs } from '../canary/onset.ts'
import { evidenceOf } from '../canary/recording.ts'
import type { Clock } from '../lib/clock.ts'
import { hasCode } from '../model/errors.ts'
import { createJobs, type Job } from '../store/jobs.ts'
import { type JudgeStore, type RolledBack, readEvidence, unreportedVerdicts, type VerdictRow } from '../store/judging.ts'
import { readParked } from '../store/parked.ts'
import type { Session } from '../store/session.ts'
import { type ComparedAfter, type HomeFacts, rollbackReport } from './judge-report.ts'
import type { LiveParity } from './live-parity.ts'

export interface AftermathParts {
  readonly session: Session
  readonly store: JudgeStore
  readonly parity: Pick<LiveParity, 'compare'>
  /** The verdict by which the canary is off. */
  rolledBack(): RolledBack | null
  readonly clock: Clock
  readonly log: Pick<Logger, 'info' | 'warn' | 'error'>
}

const LOOK_MS = 500
/** Orders of one verdict; each tries its flips several times. What is left then waits for a person. */
const ORDERS_MAX = 10
const ORDER_AGAIN_MS = { first: 2_000, most: 60_000 }
const REPORTS_AT_A_TIME = 4
/** Of both stores after a rollback: all rows, of larger ones a part. */
const COMPARED = { rowsMost: 1_000_000, partsMost: 1_000, part: 0 }

/** Until the signal aborts; rejects when the token is stale. */
export async function watchAftermath(parts: AftermathParts, signal: AbortSignal): Promise<void> {
  const { clock, log } = parts
  const after = new Aftermath(parts)
  let told = ''
  while (!signal.aborted) {
    try {
      await after.look(signal)
      told = ''
    } catch (error) {
      if (hasCode(error, 'TOKEN_STALE')) throw error
      const because = error instanceof Error ? error.message : String(error)
      if (because !== told) log.warn({ because }, 'what followed a verdict could not be looked at; tried again')
      told = because
    }
    await clock.sleep(LOOK_MS, signal)
  }
}

const TOO_LATE = 'the end of the move on the target had been announced before the verdict: nothing goes back from there'

class Aftermath {
  readonly #parts: AftermathParts
  /** By verdict: when the next order may be given. */
  readonly #orderDueMs = new Map<number, number>()
  /** Verdicts whose first words are written. */
  readonly #begun = new Set<string>()

  constructor(parts: AftermathParts) {
    this.#parts = parts
  }

  async look(signal: AbortSignal): Promise<void> {
    const { session } = this.#parts
    for (const row of await unreportedVerdicts(session, REPORTS_AT_A_TIME)) {
      if (signal.aborted) return
      const job = row.job === null ? null : await createJobs(session).read(row.job)
      // A crash between the verdict and its order cannot be: they are one transaction.
      if (job !== null && (job.state === 'open' || job.state === 'running')) continue
      const facts = await homeFacts(session, row, job)
      const again = facts.left > 0 && (await this.#orderAgain(row))
      await this.#report(row, facts, { again, signal })
    }
  }

  /** Whether the way home goes on, or may yet. */
  async #orderAgain({ id, orders, job }: VerdictRow): Promise<boolean> {
    const { clock, store, log } = this.#parts
    if (job === null || this.#parts.rolledBack()?.id !== id || orders >= ORDERS_MAX) return false
    const nowMs = clock.monotonicMs()
    const due = this.#orderDueMs.get(id)
    if (due === undefined) this.#orderDueMs.set(id, nowMs + Math.min(ORDER_AGAIN_MS.most, ORDER_AGAIN_MS.first * 2 ** (orders - 1)))
    else if (nowMs >= due) {
      this.#orderDueMs.delete(id)
      const again = await store.orderHomeAgain(id)
      if (again !== null) log.warn({ verdict: id, job: again }, 'keys are still on the target: the order to go back is given again')
    }
    return true
  }

  /** `again`: what is left may go home yet. */
  async #report(
    row: VerdictRow,
    facts: HomeFacts,
    { again, signal }: { readonly again: boolean; readonly signal: AbortSignal },
  ): Promise<void> {
    const { session, store, log } = this.#parts
    const begun = `${row.id} after order ${row.job}`
    if (again && this.#begun.has(begun)) return
    const onset = await onsetOf(row, await readEvidence(session, row.id))
    const save = (parity: ComparedAfter | null, whole: boolean) =>
      store.saveReport(row.id, {
        offAt: facts.left > 0 ? null : (facts.lastOff?.at ?? null),
        report: { ...rollbackReport(row, { facts, onset, parity, whole }) },
      })
    if (!this.#begun.has(begun)) {
      this.#begun.add(begun)
      await save(null, false)
      if (facts.left > 0) log.error({ verdict: row.id, left: facts.left, because: facts.leftBecause }, 'slots did not go home')
      else log.info({ verdict: row.id, verdictToOffMs: facts.lastOff?.afterVerdictMs }, 'the traffic is off the canary')
    }
    if (again) return
    // Past the end of the move no leader may be there to compare: what is known is the whole of it.
    const parity = row.job === null ? { notCompared: TOO_LATE } : await this.#compared(signal)
    // The next leader compares.
    if (signal.aborted) return
    await save(parity, true)
    log.info({ verdict: row.id, parity }, 'the report of the rollback is written: `switchback judge report`')
  }

  async #compared(signal: AbortSignal): Promise<ComparedAfter> {
    try {
      const compared = await this.#parts.parity.compare(COMPARED, signal)
      if (compared === null) return { notCompared: 'the comparison took too long' }
      const { rowsCompared, differences, notChecked } = compared.report
      return { rowsCompared, share: compared.share, differences, rowsNotChecked: notChecked.reduce((sum, { rows: n }) => sum + n, 0) }
    } catch (error) {
      return { notCompared: error instanceof Error ? error.message : String(error) }
    }
  }
}

async function onsetOf({ verdict }: VerdictRow, text: string | null): Promise<number | null> {
  const recorded = text === null ? null : evidenceOf(text)
  return recorded === null ? null : onsetMs(verdict, recorded, () => nextTurn())
}

/** Flips of this way home: what a person started again afterwards, and its way home, are another matter. */
const HOMEWARD = `f.owner_to = 'source' and f.started_at >= v.at and not exists (
  select from switchback.flip o
   where o.owner_to = 'target' and o.state in ('committed', 'routed') and o.started_at > v.at and o.number < f.number)`

async function homeFacts(session: Session, { id }: VerdictRow, job: Job | null): Promise<HomeFacts> {
  const flips = await session.query(
    `select f.id, f.state, cardinality(f.slots) as n from switchback.flip f, switchback.verdict v
      where v.id = $1 and ${HOMEWARD} order by f.number limit 1000`,
    [id],
  )
  const [off] = await session.query(
    `select max(j.at) as at, round(extract(epoch from max(j.at) - min(v.at)) * 1000) as ms
       from switchback.verdict v
       join switchback.flip f on f.state = 'routed' and ${HOMEWARD}
       join switchback.journal j on j.flip = f.id and j.kind = 'finish'
      where v.id = $1`,
    [id],
  )
  const [counts] = await session.query(
    // A canary that a person has started since is another one.
    `select (select count(*) from switchback.ownership o, switchback.verdict v
              where v.id = $1 and o.owner = 'target'
                and not exists (select from switchback.flip f
                                 where f.owner_to = 'target' and f.started_at > v.at and o.slot = any (f.slots))) as left,
            (select count(*) from switchback.debt) as debts,
            (select count(*) from switchback.violation x where x.settled_at is null) as violations`,
    [id],
  )
  const parked = await readParked(
    session,
    flips.map((row) => row.id!),
  )
  const held = (job?.result?.['held'] ?? []) as readonly { readonly slot: number; readonly because: string }[]
  const failed = job === null ? [TOO_LATE] : job.state === 'failed' ? [String(job.result?.['because'])] : []
  return {
    flips: flips.map((row) => ({ id: row.id!, slots: Number(row['n']), state: row.state!, parked: parked.get(row.id!) ?? null })),
    left: Number(counts!['left']),
    leftBecause: [...failed, ...new Set(held.map(({ because }) => because))].slice(0, 20),
    lastOff: off?.['at'] == null ? null : { at: off['at'], afterVerdictMs: Number(off['ms']) },
    debts: Number(counts!['debts']),
    violations: Number(counts!['violations']),
  }
}
