// Promises: the ramp's parts over a leader's own, run until the lead ends: the ramp itself, and what commands may know of the traffic.
import type { Logger } from 'pino'
import type { RampPlan, RampSettings } from '../canary/ramp.ts'
import { systemClock } from '../lib/clock.ts'
import { Signal } from '../lib/latch.ts'
import { createJobs } from '../store/jobs.ts'
import type { PostgresLeaderControl } from '../store/leader-control.ts'
import { createRamps } from '../store/ramps.ts'
import { frozenSlots } from '../store/violations.ts'
import type { LiveJudge, Measurements } from './judging-parts.ts'
import { runRamps } from './ramp-loop.ts'
import { tellTraffic } from './tell-traffic.ts'
import type { Workspace } from './workspace.ts'

export interface LeaderRampsOptions {
  readonly workspace: Workspace
  readonly control: PostgresLeaderControl
  readonly measurements: Measurements
  readonly judge: LiveJudge
  /** As people may see a key. */
  keyName(key: string): string
  readonly log: Logger
}

export async function runLeaderRamps(options: LeaderRampsOptions, signal: AbortSignal): Promise<void> {
  const { workspace, control, measurements, judge, keyName: nameOf, log } = options
  const { session } = workspace
  const { token } = control
  const placed = new Signal()
  const off = control.onOrder(() => placed.notify())
  const ramps = {
    ramps: createRamps<RampSettings, RampPlan>(session),
    jobs: createJobs(session),
    token,
    clock: systemClock,
    log,
    judge,
    measurements,
    nextOrder: (wait: AbortSignal) => placed.next(wait),
    view: () => control.view(),
    frozen: async () => (await frozenSlots(session)).map(({ slot }) => slot),
    nameOf,
  }
  try {
    await Promise.all([runRamps(ramps, signal), tellTraffic({ session, token, clock: systemClock, measurements, nameOf }, signal)])
  } finally {
    off()
  }
}
