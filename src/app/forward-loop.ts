// Promises: the forward sync of one leader for as long as it leads: it begins when a backfill is done and stands still, by name and on
// record, when its slot is lost or when WAL comes that no new try mends, while the rest of the lead (rollbacks) goes on. It takes the
// stream up again by itself: after another backfill, or, where it may help, when it has tried again (protocols.md, Forward sync;
// faults.md 13, 15). A stream that broke off is made again; weather that stays ends the lead, which begins anew.
import type { Logger } from 'pino'
import { BugError } from '../lib/assert.ts'
import { backoffMs } from '../lib/backoff.ts'
import { systemClock } from '../lib/clock.ts'
import { Signal } from '../lib/latch.ts'
import { systemRandom } from '../lib/prng.ts'
import { SwitchbackError } from '../model/errors.ts'
import type { Source } from '../model/source.ts'
import type { Target } from '../model/target.ts'
import { readMapping } from '../source/catalog.ts'
import { type BackfillState, stopForward } from '../store/backfills.ts'
import type { PostgresLeaderControl } from '../store/leader-control.ts'
import { readEpoch } from '../store/read-view.ts'
import { recordViolation } from '../store/violations.ts'
import { type ForwardProgress, runForward } from '../sync/forward.ts'
import { createTenureReader } from '../sync/tenure-reader.ts'
import { readStanding, stopsForward } from './backfill-standing.ts'
import { HEARTBEAT, Heartbeats } from './heartbeats.ts'
import { slotNameOf } from './names.ts'
import type { Workspace } from './workspace.ts'

export interface ForwardLoopOptions {
  readonly workspace: Workspace
  readonly control: PostgresLeaderControl
  readonly source: Source
  readonly target: Pick<Target, 'putRows' | 'scanRows'>
  readonly ownOrigins: ReadonlySet<string>
  /** It stands still: what PostgreSQL owns is not kept up to date any more. */
  readonly onStopped: () => void
  readonly log: Logger
}

const BACKFILL_LOOK_MS = 250
/** After what a new try may mend. */
const STOPPED_RETRY_MS = 5_000
const HEARTBEAT_MS = 1_000
/** A stream that breaks off again before a heartbeat of it has come through. */
const STREAM_TRIES_MAX = 5
const STREAM_RETRY = { firstMs: 50, capMs: 1_000 }
/** Markers kept for a flip that asks a little late. */
const MARKERS_MAX = 1_000

export class ForwardLoop {
  readonly #options: ForwardLoopOptions
  readonly #markers = new Set<string>()
  readonly #marked = new Signal()
  #heartbeats: Heartbeats | null = null
  #progress: ForwardProgress | null = null
  #stopped: { readonly backfill: number; readonly because: string } | null = null
  #tries = 0

  constructor(options: ForwardLoopOptions) {
    this.#options = options
  }

  /** Of the stream that runs; null: none does. */
  progress(): ForwardProgress | null {
    return this.#progress
  }

  /** Why it stands still. */
  stopped(): string | null {
    return this.#stopped?.because ?? null
  }

  /** Age of the oldest thing that PostgreSQL has committed and the target does not hold; undefined: not known (INV-10). */
  lagMs(): number | undefined {
    const heartbeatMs = this.#heartbeats?.oldestMs()
    return heartbeatMs === undefined || this.#progress === null ? undefined : Math.max(this.#progress.lagMs, heartbeatMs)
  }

  async passed(marker: string, signal: AbortSignal): Promise<void> {
    for (;;) {
      const next = this.#marked.next(signal)
      if (this.#markers.has(marker) || signal.aborted) return
      await next
    }
  }

  /** Until the signal aborts; rejects with what ends the lead. */
  async run(signal: AbortSignal): Promise<void> {
    const { workspace, log } = this.#options
    let notBeforeMs = 0
    while (!signal.aborted) {
      const { backfill, standing } = await readStanding(workspace.session, slotNameOf(workspace.config.migration))
      const stopped = standing.kind === 'stopped' ? standing : null
      if (stopped?.lost) await this.#stop(backfill!, stopped.because, true)
      const mayRun = standing.kind === 'whole' || stopped?.lost === false
      if (!mayRun || systemClock.monotonicMs() < notBeforeMs) {
        await systemClock.sleep(BACKFILL_LOOK_MS, signal)
        continue
      }
      if (this.#stopped !== null && this.#stopped.backfill !== backfill!.id) await this.#refuseChangedTables()
      this.#stopped = stopped === null ? null : { backfill: backfill!.id, because: stopped.because }
      try {
        log.info({ backfill: backfill!.id }, 'the backfill is done; the forward sync begins')
        await this.#stream(backfill!, signal)
      } catch (error) {
        if (signal.aborted) return
        const because = await this.#whyStopped(error)
        if (because === null) {
          if (endsLead(error) || ++this.#tries > STREAM_TRIES_MAX) throw error
          await systemClock.sleep(STREAM_RETRY.firstMs + backoffMs(this.#tries, STREAM_RETRY, systemRandom), signal)
          continue
        }
        await this.#stop(backfill!, because.text, because.lost)
        if (!because.lost) notBeforeMs = systemClock.monotonicMs() + STOPPED_RETRY_MS
      }
    }
  }

  async #stream(backfill: BackfillState, signal: AbortSignal): Promise<void> {
    const { workspace, source, target, control, ownOrigins } = this.#options
    // Not before: the backfill's begin gives its tenure the first LSN.
    const tenures = await createTenureReader({ control, epoch: () => readEpoch(workspace.session) })
    const stream = await source.stream()
    const ended = new AbortController()
    const heartbeats = new Heartbeats()
    const beating = this.#beat(heartbeats, AbortSignal.any([signal, ended.signal]))
    try {
      this.#heartbeats = heartbeats
      await runForward(
        {
          stream,
          target,
          mapping: workspace.mapping,
          tenures,
          ownOrigins,
          onMarker: (content) => this.#passedMarker(content, backfill),
          onViolation: (violation) =>
            recordViolation(workspace.session, { slot: violation.slot, commitLsn: violation.commitLsn, detail: { ...violation } }),
          progress: (progress) => {
            this.#progress = progress
          },
          limits: { progressMs: 200 },
          clock: systemClock,
          random: systemRandom,
        },
        signal,
      )
    } finally {
      ended.abort()
      await beating
      this.#heartbeats = null
      await stream.close()
    }
  }

  /** A backfill that came after DDL has copied the tables as they are now: this lead knows them as they were, and begins anew. */
  async #refuseChangedTables(): Promise<void> {
    const { client, config, mapping } = this.#options.workspace
    if (JSON.stringify(await readMapping(client, config)) === JSON.stringify(mapping)) return
    throw new Error('the mapped tables have changed since this lead began')
  }

  /** Null: weather. A stream that broke off is asked whether its slot is still there. */
  async #whyStopped(error: unknown): Promise<{ readonly text: string; readonly lost: boolean } | null> {
    const { workspace, log } = this.#options
    const stop = error instanceof SwitchbackError ? stopsForward(error) : null
    if (stop !== null) return { text: `${(error as SwitchbackError).code}: ${(error as SwitchbackError).message}`, lost: stop === 'lost' }
    const now = await readStanding(workspace.session, slotNameOf(workspace.config.migration)).catch(() => null)
    if (now?.standing.kind === 'stopped' && now.standing.lost) return { text: now.standing.because, lost: true }
    // Refused as lost, and yet there: PostgreSQL says why.
    if (error instanceof SwitchbackError && error.kind === 'lost' && now !== null) return { text: error.message, lost: false }
    log.warn({ error: String(error) }, 'the stream broke off')
    return null
  }

  async #stop(backfill: BackfillState, because: string, lost: boolean): Promise<void> {
    const { workspace, control, log, onStopped } = this.#options
    this.#progress = null
    if (this.#stopped?.backfill === backfill.id && this.#stopped.because === because) return
    this.#stopped = { backfill: backfill.id, because }
    log.error({ backfill: backfill.id, because, lost }, 'THE FORWARD SYNC HAS STOPPED: parity is invalid and no canary may start')
    onStopped()
    await stopForward(workspace.session, control.token, { backfill: backfill.id, because, lost })
  }

  /** An idle slot moves on, and how far behind the forward sync is is known while nothing is written (protocols.md, Forward sync). */
  async #beat(heartbeats: Heartbeats, signal: AbortSignal): Promise<void> {
    const { workspace, control, log } = this.#options
    while (!signal.aborted) {
      await workspace.session
        .query(`select pg_logical_emit_message(true, 'switchback', $1)`, [heartbeats.next(control.token)])
        .catch((error: unknown) => log.warn({ error: String(error) }, 'a heartbeat could not be written'))
      await systemClock.sleep(HEARTBEAT_MS, signal)
    }
  }

  #passedMarker(content: string, backfill: BackfillState): void {
    if (content.startsWith(HEARTBEAT)) {
      this.#heartbeats?.passed(content)
      if (this.#heartbeats?.oldestMs() !== undefined) this.#tries = 0
      if (this.#stopped !== null && this.#heartbeats?.oldestMs() !== undefined) this.#goOn(backfill)
      return
    }
    this.#markers.add(content)
    if (this.#markers.size > MARKERS_MAX) this.#markers.delete(this.#markers.values().next().value!)
    this.#marked.notify()
  }

  /** A heartbeat of this stream has passed: so has what stopped it before. */
  #goOn(backfill: BackfillState): void {
    const { workspace, control, log } = this.#options
    const before = this.#stopped
    this.#stopped = null
    log.info('the forward sync goes on')
    void stopForward(workspace.session, control.token, { backfill: backfill.id, because: null, lost: false }).catch((error: unknown) => {
      // The next heartbeat tries again.
      this.#stopped ??= before
      log.warn({ error: String(error) }, 'that the forward sync goes on could not be recorded')
    })
  }
}

/** Another one leads, or a mistake of ours: no new stream helps. */
function endsLead(error: unknown): boolean {
  return error instanceof BugError || (error instanceof SwitchbackError && (error.kind === 'fenced' || error.kind === 'bug'))
}
