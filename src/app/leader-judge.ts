// Promises: the judge's parts over a leader's own: one connection for what it writes, others for comparisons, run until the lead ends.
import type { Logger } from 'pino'
import { pseudonyms } from '../canary/hot-keys.ts'
import { systemClock } from '../lib/clock.ts'
import type { RoutingView } from '../model/ownership.ts'
import type { RowKey } from '../model/row.ts'
import type { Target } from '../model/target.ts'
import { createJudgeStore } from '../store/judging.ts'
import { leaderApplicationName } from '../store/leadership.ts'
import { controlConnector, openSession } from '../store/session.ts'
import { watchAftermath } from './judge-aftermath.ts'
import { judgeSettings } from './judge-settings.ts'
import { type Judging, openJudging } from './judging.ts'
import type { Measurements } from './judging-parts.ts'
import { comparedEveryMs, LiveParity } from './live-parity.ts'
import { slotsOnTarget } from './slots-on-target.ts'
import type { Workspace } from './workspace.ts'

export interface LeaderJudgeOptions {
  readonly workspace: Workspace
  readonly token: number
  readonly target: Target
  readonly measurements: Measurements
  view(): RoutingView
  /** How far the reverse sync is behind now. */
  reverseLagMs(): number
  /** A row that the target owns differs for good. */
  differs(row: RowKey): void
  readonly log: Logger
}

export interface LeaderJudge {
  readonly judging: Judging
  /** As people may see a key. */
  keyName(key: string): string
  /** A row stands still and differs. */
  suspect(row: RowKey): void
  /** Until the signal aborts; rejects when the token is stale. */
  run(signal: AbortSignal): Promise<void>
  close(): Promise<void>
}

export async function openLeaderJudge(options: LeaderJudgeOptions): Promise<LeaderJudge> {
  const { workspace, token, target, measurements, log } = options
  const session = await openSession({
    connect: controlConnector({ connectionString: workspace.url }),
    applicationName: leaderApplicationName(token, 'judge'),
  })
  const store = createJudgeStore(session, token)
  const settings = judgeSettings(workspace.config)
  const step = slotsOnTarget(options.view)
  const everyMs = comparedEveryMs(settings.config.promotion.parityFreshMs)
  const parity = new LiveParity({
    workspace,
    target,
    step,
    everyMs,
    differs: (row) => options.differs(row),
    clock: systemClock,
    log,
  })
  const { secret } = await store.read()
  const sources = {
    measurements,
    growth: settings.growth,
    step,
    lagMs: () => options.reverseLagMs(),
    parity: () => parity.last(),
    takeWrongWrites: () => parity.takeWrongWrites(),
    keyName: settings.showKeys ? (key: string) => key : pseudonyms(secret),
  }
  const judging = await openJudging({ store, sources, settings, clock: systemClock, log })
  return {
    judging,
    keyName: sources.keyName,
    suspect: (row) => parity.suspect(row),
    async run(signal) {
      const aftermath = { session, store, parity, rolledBack: () => judging.rolledBack(), clock: systemClock, log }
      const compare = settings.enabled ? [parity.run(signal)] : []
      await Promise.all([judging.run(signal), watchAftermath(aftermath, signal), ...compare])
    },
    close: () => session.close(),
  }
}
