// Promises: the judge at work beside the leader's orders: once a second it judges what both arms did, and never waits: what it comes to is
// recorded by a loop of its own, and the order to go back is placed in the same transaction as the verdict (record before act). Its state
// outlives the leader. It fails no lead: what goes wrong here is told and tried again, but for a token that is stale.
import type { Logger } from 'pino'
import { FRESH_JUDGE, type JudgeConfig, type Judgement, type JudgeState, judge, startedAgain } from '../canary/judge.ts'
import { EvidenceRecorder } from '../canary/recording.ts'
import type { JudgeVerdict } from '../canary/verdict.ts'
import type { Clock } from '../lib/clock.ts'
import { untilDeadline } from '../lib/in-time.ts'
import { Signal } from '../lib/latch.ts'
import { Turns } from '../lib/turns.ts'
import { hasCode, SwitchbackError } from '../model/errors.ts'
import type { Job } from '../store/jobs.ts'
import type { JudgeStore, RolledBack } from '../store/judging.ts'
import { againstCanary } from './judge-against.ts'
import { EvidenceMaker, type EvidenceSources } from './judge-evidence.ts'
import type { JudgeSettings } from './judge-settings.ts'
import { type JudgeStanding, standingOf } from './judge-standing.ts'
import { restoredState, savedState } from './judge-state.ts'
import type { JudgeNow, LiveJudge } from './judging-parts.ts'

export interface JudgingParts {
  readonly store: JudgeStore
  readonly sources: EvidenceSources
  readonly settings: JudgeSettings
  readonly clock: Clock
  readonly log: Pick<Logger, 'info' | 'warn' | 'error'>
}

const SPAN_MS = 1_000
const SAVE_MS = 5_000
/** Of a write that failed; a verdict that waits is tried again for as long as this leader leads. */
const WRITE_AGAIN_MS = 250
/** Verdicts that wait for PostgreSQL; the first are kept, and of rollbacks there is one. */
const PENDING_MAX = 256

interface Pending {
  readonly verdict: JudgeVerdict
  readonly evidence: string | null
}

export async function openJudging(parts: JudgingParts): Promise<Judging> {
  const row = await parts.store.read()
  const { state, anew } = restoredState(row)
  if (anew !== null) parts.log.warn({ because: anew }, 'what the judge had gathered cannot be read; it begins anew')
  return new Judging(parts, state, row.rolledBack)
}

export class Judging implements LiveJudge {
  readonly #parts: JudgingParts
  readonly #config: JudgeConfig
  readonly #evidence: EvidenceMaker
  readonly #turns = new Turns({ waitingMax: 64, full: () => new SwitchbackError('CONTROL_UNREACHABLE', { reason: 'the judge waits' }) })
  readonly #pending: Pending[] = []
  readonly #woken = new Signal()
  #recorder: EvidenceRecorder
  #state: JudgeState
  /** As it stands in PostgreSQL. */
  #rolledBack: RolledBack | null
  #judgement: Judgement | null = null
  #standing: JudgeStanding | null = null
  #lastMonotonicMs: number
  #failing: string | null = null

  constructor(parts: JudgingParts, state: JudgeState, rolledBack: RolledBack | null) {
    this.#parts = parts
    this.#config = parts.settings.config
    this.#evidence = new EvidenceMaker(parts.sources)
    this.#recorder = new EvidenceRecorder(this.#config)
    this.#state = state
    this.#rolledBack = rolledBack
    this.#lastMonotonicMs = parts.clock.monotonicMs()
  }

  now(): JudgeNow {
    const judged = this.#judgement
    const { rolledBack, step } = this.#state
    const holds = judged === null ? [this.#parts.settings.enabled ? 'nothing has been judged yet' : OFF] : judged.holds
    return { step, promote: judged?.promote ?? false, holds, rolledBack, saturation: this.#standing?.saturation ?? [] }
  }

  /** What speaks against the canary now, a sentence each. */
  against(): readonly string[] {
    return againstCanary(this.#judgement, { enabled: this.#parts.settings.enabled, rolledBack: this.#state.rolledBack })
  }

  /** The rollback that stands, once it is recorded. */
  rolledBack(): RolledBack | null {
    return this.#rolledBack
  }

  /** For `status`. */
  standing(): JudgeStanding | null {
    return this.#standing
  }

  startAgain(): Promise<void> {
    const heardOf = this.#rolledBack?.id
    return this.#turns.take(async () => {
      await this.#recordPending()
      // One that is recorded only now: whoever starts again has not heard of it.
      if (this.#state.rolledBack === null || this.#rolledBack?.id !== heardOf) return
      const saved = savedState(startedAgain(this.#state))
      await this.#parts.store.startAgain(saved ?? savedState(FRESH_JUDGE)!)
      this.#state = startedAgain(this.#state)
      // Judged again from here, so that a file of evidence does not begin before.
      this.#recorder = new EvidenceRecorder(this.#config)
      this.#rolledBack = null
      this.#parts.log.info('a person starts the canary again: the judge judges again')
    })
  }

  /**
   * Before an order of keys to the target is carried out. One that a person gave after a rollback by verdict starts the canary again.
   * @throws CANARY_ROLLED_BACK of any other.
   */
  async admit({ id, arguments: order }: Pick<Job, 'id' | 'arguments'>): Promise<void> {
    const verdict = this.#state.rolledBack
    if (verdict === null || order.kind !== 'move' || order.to !== 'target') return
    const home = this.#rolledBack?.job ?? Number.POSITIVE_INFINITY
    if (order.by === 'ramp' || id < home)
      throw new SwitchbackError('CANARY_ROLLED_BACK', { detector: verdict.detector, at: new Date(verdict.tMs).toISOString() })
    await this.startAgain()
  }

  /** Until the signal aborts; rejects when the token is stale. */
  async run(signal: AbortSignal): Promise<void> {
    await Promise.all([this.#judgeAlways(signal), this.#writeAlways(signal)])
  }

  async #judgeAlways(signal: AbortSignal): Promise<void> {
    const { clock } = this.#parts
    this.#lastMonotonicMs = clock.monotonicMs()
    while (!signal.aborted) {
      await clock.sleep(Math.max(0, this.#lastMonotonicMs + SPAN_MS - clock.monotonicMs()), signal)
      if (!signal.aborted) this.#judgeOnce()
    }
  }

  #judgeOnce(): void {
    const { clock, settings, log } = this.#parts
    const monotonicMs = clock.monotonicMs()
    const span = { nowMs: clock.nowMs(), monotonicMs, spanMs: monotonicMs - this.#lastMonotonicMs }
    this.#lastMonotonicMs = monotonicMs
    const before = this.#state
    try {
      const evidence = this.#evidence.next(span)
      if (!settings.enabled) {
        this.#state = { ...before, step: evidence.step }
        return
      }
      this.#recorder.add(before, evidence)
      const judged = judge(before, evidence, this.#config)
      this.#state = judged.state
      this.#judgement = { ...judged, holds: [...this.#evidence.silent.map((name) => `nothing is heard of ${name}`), ...judged.holds] }
      this.#standing = standingOf(this.#judgement, evidence, {
        config: this.#config,
        keys: this.#evidence.keys,
        keyName: this.#parts.sources.keyName,
        lost: this.#parts.sources.measurements.lost(),
      })
      for (const verdict of judged.verdicts) this.#found(verdict)
    } catch (error) {
      log.error({ error: error instanceof Error ? error.stack : String(error) }, 'the judge could not judge; it begins anew')
      // A canary that nobody can judge is one of which nothing is known: time goes on, and at its end it goes back (INV-10).
      const { step, lastMs, rolledBack, silentMs } = before
      this.#recorder = new EvidenceRecorder(this.#config)
      this.#state = { ...FRESH_JUDGE, step, lastMs, rolledBack, silentMs: silentMs + (step > 0 ? span.spanMs : 0) }
      this.#judgement = { state: this.#state, verdicts: [], holds: ['the judge could not judge'], promote: false, levels: [] }
    }
  }

  #found(verdict: JudgeVerdict): void {
    const { log } = this.#parts
    const { act, detector, key, evidence } = verdict
    const said = { act, detector, about: key ?? evidence.statement, level: evidence.level, threshold: evidence.threshold }
    if (act === 'rollback') log.error(said, 'VERDICT: the traffic goes back to PostgreSQL')
    else log.warn(said, 'verdict')
    if (act !== 'rollback' && this.#pending.length >= PENDING_MAX) return
    this.#pending.push({ verdict, evidence: act === 'rollback' ? this.#recorder.file(verdict) : null })
    this.#woken.notify()
  }

  async #writeAlways(signal: AbortSignal): Promise<void> {
    const { clock, log } = this.#parts
    let savedMs = clock.monotonicMs()
    while (!signal.aborted) {
      try {
        await this.#turns.take(async () => {
          await this.#recordPending()
          if (clock.monotonicMs() - savedMs < SAVE_MS) return
          await this.#save()
          savedMs = clock.monotonicMs()
        })
        if (this.#failing !== null) log.info('the judge writes to PostgreSQL again')
        this.#failing = null
      } catch (error) {
        if (hasCode(error, 'TOKEN_STALE')) throw error
        const because = error instanceof Error ? error.message : String(error)
        if (because !== this.#failing) log.warn({ because }, 'what the judge found could not be written; tried again')
        this.#failing = because
        await clock.sleep(WRITE_AGAIN_MS, signal)
        continue
      }
      if (this.#pending.length === 0) await this.#pause(signal)
    }
    // The next leader goes on from here; where this fails, from some seconds before.
    await this.#turns.take(() => this.#save()).catch(() => undefined)
  }

  /** Until something is found, and at most a while. */
  async #pause(signal: AbortSignal): Promise<void> {
    using until = untilDeadline(this.#parts.clock, SPAN_MS, signal)
    await this.#woken.next(until.signal)
  }

  async #recordPending(): Promise<void> {
    const { store, settings, log } = this.#parts
    for (let next = this.#pending[0]; next !== undefined; next = this.#pending[0]) {
      const { verdict } = next
      const saved = savedState(this.#state) ?? savedState({ ...FRESH_JUDGE, rolledBack: this.#state.rolledBack })!
      const { id, job, held } = await store.record({ ...next, ...saved, evidenceFilesMax: settings.evidenceFilesMax })
      this.#pending.shift()
      if (verdict.act !== 'rollback' || id === null) continue
      this.#rolledBack = { id, verdict, job }
      if (job === null)
        log.error({ verdict: id }, 'the verdict is recorded; the end of the move was announced before, so nothing goes back')
      else log.warn({ verdict: id, job, held }, 'the verdict is recorded, and the order to go back placed')
    }
  }

  async #save(): Promise<void> {
    // What PostgreSQL does not know yet is not said to have happened.
    if (this.#pending.length > 0) return
    const saved = savedState(this.#state)
    if (saved === null) return this.#parts.log.warn('what the judge has gathered is too long to be kept')
    await this.#parts.store.save(saved)
  }
}

const OFF = 'the judge is off (judge.enabled)'
