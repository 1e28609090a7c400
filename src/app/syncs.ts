// Promises: the two syncs of one leader and the feed, put together and run until the lead ends. The forward sync begins when the
// backfill is done, and may stand still; the reverse sync runs from the first moment on, so that keys can always go back.
import { randomBytes } from 'node:crypto'
import type { Logger } from 'pino'
import type { FlipStandbys } from '../flip/parts.ts'
import { systemClock } from '../lib/clock.ts'
import { systemRandom } from '../lib/prng.ts'
import type { LeaseRow, ReverseApplier } from '../model/control.ts'
import type { TableName } from '../model/mapping.ts'
import type { RoutingView } from '../model/ownership.ts'
import type { Source } from '../model/source.ts'
import type { Target } from '../model/target.ts'
import { publishEndpoint } from '../store/endpoint.ts'
import type { PostgresLeaderControl } from '../store/leader-control.ts'
import type { ForwardProgress } from '../sync/forward.ts'
import { createReverseSync, type ReverseSync } from '../sync/reverse.ts'
import { type FeedServer, startFeedServer } from './feed-server.ts'
import { ForwardLoop } from './forward-loop.ts'
import type { Measurements } from './judging-parts.ts'
import { leaseSettings } from './load-config.ts'
import { MeasurementBook } from './measurement-book.ts'
import type { Probe } from './probe.ts'
import { viewWithProbe } from './probe-mapping.ts'
import { RecentRows } from './recent-rows.ts'
import type { Workspace } from './workspace.ts'

export interface Syncs {
  readonly reverse: ReverseSync
  readonly recent: RecentRows
  /** What the gateways measured. */
  readonly measurements: Measurements
  /** Null: no stream runs. */
  forward(): ForwardProgress | null
  /** Why the forward sync stands still. */
  forwardStopped(): string | null
  /** Age of the oldest thing that PostgreSQL has committed and the target does not hold; undefined: not known (INV-10). */
  forwardLagMs(): number | undefined
  /** Resolves when the forward sync has passed the marker, or when the signal aborts. */
  passed(marker: string, signal: AbortSignal): Promise<void>
  /** Reads lease rows and the view again. */
  refresh(): Promise<void>
  view(): RoutingView
  /** Ends both syncs for good: `run` resolves. Nothing of them runs when this has. */
  end(): Promise<void>
  /** Rejects with what stops the lead. */
  run(signal: AbortSignal): Promise<void>
  close(): Promise<void>
}

export interface SyncsOptions {
  readonly workspace: Workspace
  readonly control: PostgresLeaderControl
  readonly source: Source
  readonly target: Target
  readonly applier: ReverseApplier
  readonly ownOrigins: ReadonlySet<string>
  readonly probe: Probe
  readonly standbys: FlipStandbys
  readonly log: Logger
}

const RECENT_ROWS_MAX = 20_000
const REFRESH_MS = 250
/** After a lease has changed: acks change them too, and a flip's own statements go before ours on the control session. */
const REFRESH_SOON_MS = 50

export async function openSyncs(options: SyncsOptions): Promise<Syncs> {
  const { workspace, control, log } = options
  let view = await control.view()
  let wholeView = viewWithProbe(view, options.probe)
  let leases: readonly LeaseRow[] = await control.leases()
  let feed: FeedServer | null = null
  const refresh = async () => {
    const [read, rows] = await Promise.all([control.view(), control.leases()])
    leases = rows
    if (read === view) return
    view = read
    wholeView = viewWithProbe(view, options.probe)
  }
  const recent = new RecentRows({ max: RECENT_ROWS_MAX, slotOf: (key) => view.slotOf(key) })
  const reverse = createReverseSync({
    target: options.target,
    applier: rememberApplied(options.applier, recent, new Set(workspace.mapping.tables.map((table) => table.name))),
    leases: () => leases,
    ownOutboxes: () => options.probe.outboxes(),
    view: () => wholeView,
    refreshView: () => void refresh().catch(() => undefined),
    poison: (await control.poison()).filter((poison) => !poison.retrying),
    onAlarm: (alarm) => log.warn({ alarm }, 'the reverse sync waits'),
    awaitFlushed: (signal) => options.standbys.awaitFlushed(signal),
    onPositions: (positions) => feed?.positions(positions),
    clock: systemClock,
    random: systemRandom,
  })
  const { lengthMs, marginMs } = leaseSettings(workspace.config)
  const measurements = new MeasurementBook({
    leases: () => leases,
    leaseOverMs: lengthMs + marginMs,
    slotOf: (key) => view.slotOf(key),
    ownerOf: (slot) => view.ownership(slot)?.owner,
    queued: workspace.config.gateway?.fifo ?? true,
    clock: systemClock,
  })
  const secret = randomBytes(24).toString('base64url')
  const { host = '127.0.0.1', port = 0, advertise = {} } = workspace.config.controller ?? {}
  feed = await startFeedServer({
    host,
    port,
    secret,
    token: control.token,
    reverse,
    measured: (lease, report) => measurements.report(lease, report),
    warn: (details, message) => log.warn(details, message),
  })
  await publishEndpoint(workspace.session, { token: control.token, host, port: feed.port, ...advertise, secret })
  return new LeaderSyncs(options, { reverse, recent, measurements, feed, refresh, view: () => view })
}

interface Pieces {
  readonly reverse: ReverseSync
  readonly recent: RecentRows
  readonly measurements: Measurements
  readonly feed: FeedServer
  readonly refresh: () => Promise<void>
  readonly view: () => RoutingView
}

class LeaderSyncs implements Syncs {
  readonly reverse: ReverseSync
  readonly recent: RecentRows
  readonly measurements: Measurements
  readonly #options: SyncsOptions
  readonly #pieces: Pieces
  readonly #end = new AbortController()
  #running: Promise<unknown> = Promise.resolve()
  readonly #forward: ForwardLoop

  constructor(options: SyncsOptions, pieces: Pieces) {
    this.#options = options
    this.#pieces = pieces
    this.reverse = pieces.reverse
    this.recent = pieces.recent
    this.measurements = pieces.measurements
    const { workspace, control, source, target, ownOrigins, log } = options
    this.#forward = new ForwardLoop({
      workspace,
      control,
      source,
      target: rememberPut(target, this.recent),
      ownOrigins,
      // Rows that PostgreSQL owns differ from now on, and that is no drift.
      onStopped: () => this.recent.forget((slot) => this.view().ownership(slot)?.owner !== 'target'),
      log,
    })
  }

  forward(): ForwardProgress | null {
    return this.#forward.progress()
  }

  forwardStopped(): string | null {
    return this.#forward.stopped()
  }

  forwardLagMs(): number | undefined {
    return this.#forward.lagMs()
  }

  view(): RoutingView {
    return this.#pieces.view()
  }

  refresh(): Promise<void> {
    return this.#pieces.refresh()
  }

  passed(marker: string, signal: AbortSignal): Promise<void> {
    return this.#forward.passed(marker, signal)
  }

  async end(): Promise<void> {
    this.#end.abort()
    await this.#running
  }

  run(signal: AbortSignal): Promise<void> {
    const running = this.#run(AbortSignal.any([signal, this.#end.signal]))
    this.#running = running.catch(() => undefined)
    return running
  }

  /** The first part that fails ends the others; nothing of them runs when this has returned. */
  async #run(signal: AbortSignal): Promise<void> {
    const stop = new AbortController()
    const onAbort = () => stop.abort()
    signal.addEventListener('abort', onAbort, { once: true })
    // A lead may end while it begins.
    if (signal.aborted) stop.abort()
    const parts = [this.#forward.run(stop.signal), this.reverse.run(stop.signal), this.#keepFresh(stop.signal)]
    try {
      await Promise.all(parts)
    } finally {
      stop.abort()
      await Promise.allSettled(parts)
      signal.removeEventListener('abort', onAbort)
    }
  }

  async close(): Promise<void> {
    await this.#pieces.feed.close()
  }

  async #keepFresh(signal: AbortSignal): Promise<void> {
    // Ends the pause: it is made anew each time, so that nothing piles up on the lead's own signal.
    let pause = new AbortController()
    const wake = () => pause.abort()
    const due: { cancel: (() => void) | null } = { cancel: null }
    const off = this.#options.control.onLeaseChange(() => {
      due.cancel ??= systemClock.after(REFRESH_SOON_MS, () => {
        due.cancel = null
        wake()
      })
    })
    signal.addEventListener('abort', wake, { once: true })
    try {
      while (!signal.aborted) {
        pause = new AbortController()
        await this.refresh().catch((error: unknown) =>
          this.#options.log.warn({ error: String(error) }, 'the view could not be read; tried again'),
        )
        await this.#releaseMended().catch((error: unknown) =>
          this.#options.log.warn({ error: String(error) }, 'the poison could not be read; tried again'),
        )
        await systemClock.sleep(REFRESH_MS, pause.signal)
      }
    } finally {
      off()
      due.cancel?.()
      signal.removeEventListener('abort', wake)
    }
  }

  /** Whose poison somebody wants tried again, or has removed by hand, goes on in order, without a new leader (INV-6, INV-11). */
  async #releaseMended(): Promise<void> {
    const halted = this.reverse.halted()
    if (halted.length === 0) return
    const standing = new Set((await this.#options.control.poison()).filter(({ retrying }) => !retrying).map(({ key }) => key))
    for (const { key } of halted) {
      if (standing.has(key) || !this.reverse.release(key)) continue
      this.#options.log.info({ key }, 'a halted key is tried again')
    }
  }
}

function rememberPut(target: Target, recent: RecentRows): Pick<Target, 'putRows' | 'scanRows'> {
  return {
    async putRows(rows) {
      await target.putRows(rows)
      for (const row of rows) recent.changed(row)
    },
    scanRows: (options) => target.scanRows(options),
  }
}

/** `tables`: the service's own; the probe's row is compared by nobody. */
function rememberApplied(applier: ReverseApplier, recent: RecentRows, tables: ReadonlySet<TableName>): ReverseApplier {
  return {
    applied: (keys) => applier.applied(keys),
    positions: () => applier.positions(),
    savePositions: (positions) => applier.savePositions(positions),
    async apply(batch) {
      const outcomes = await applier.apply(batch)
      batch.forEach(({ key, changes }, i) => {
        if (outcomes[i] === 'applied')
          for (const change of changes)
            if (tables.has(change.table)) recent.changed({ table: change.table, key, clustering: change.clustering })
      })
      return outcomes
    },
  }
}
