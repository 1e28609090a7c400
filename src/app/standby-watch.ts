// Promises: named standbys are watched for as long as this controller leads: one that is silent for standbyLostMs is struck off in the
// journal, and taken back there once it holds everything again; and whoever waits for standbys waits for the others (protocols.md,
// Durable control). With none named nothing is asked.
import type { Logger } from 'pino'
import type { FlipStandbys } from '../flip/parts.ts'
import type { Clock } from '../lib/clock.ts'
import type { MigrationConfig } from '../model/migration.ts'
import { lookAtStandbys, type NamedStandbys, type StandbySightings, standbysBehind } from '../model/standby.ts'
import type { PostgresLeaderControl } from '../store/leader-control.ts'

export interface StandbyWatch extends FlipStandbys {
  /** Until the signal aborts, or the lead ends. */
  run(signal: AbortSignal): Promise<void>
}

export interface StandbyWatchOptions {
  readonly source: MigrationConfig['source']
  readonly control: Pick<PostgresLeaderControl, 'standbys' | 'struck' | 'strikeOff' | 'takeBack'>
  readonly clock: Clock
  readonly log: Pick<Logger, 'warn' | 'info'>
}

const STANDBY_LOST_MS = 30_000
const LOOK_MS_MAX = 1_000
const LOOKS_PER_SILENCE = 4
/** Between looks of who waits: the service waits too. */
const FLUSHED_LOOK_MS = { first: 2, max: 25 }
/** It held everything a moment ago. */
const TAKEN_BACK_WITHIN_MS = 50

export async function watchStandbys(options: StandbyWatchOptions): Promise<StandbyWatch> {
  const { control, clock, log } = options
  const names = [...new Set(options.source.standbys ?? [])]
  const lostMs = options.source.standbyLostMs ?? STANDBY_LOST_MS
  if (names.length === 0) return { any: () => false, awaitFlushed: async () => [], run: async () => undefined }
  const struck = new Set((await control.struck()).map(({ name }) => name).filter((name) => names.includes(name)))
  const named = { names, struck }
  let sightings: StandbySightings = new Map()
  /** Those of them that still lack what was committed before the call, when it gives up. */
  const lacking = async (of: NamedStandbys, withinMs: number, signal?: AbortSignal) => {
    const first = await control.standbys()
    let behind = standbysBehind(of, first.rows, first.flushedHere)
    let waitMs = FLUSHED_LOOK_MS.first
    for (let waitedMs = 0; behind.length > 0 && waitedMs < withinMs && !signal?.aborted; waitedMs += waitMs) {
      await clock.sleep(waitMs, signal)
      behind = standbysBehind(of, (await control.standbys()).rows, first.flushedHere)
      waitMs = Math.min(waitMs * 2, FLUSHED_LOOK_MS.max)
    }
    return behind
  }
  const look = async () => {
    const seen = await control.standbys()
    const found = lookAtStandbys(named, seen, sightings, { nowMs: clock.monotonicMs(), lostMs })
    sightings = found.sightings
    for (const { name, silentMs } of found.lost) {
      await control.strikeOff(name, silentMs)
      struck.add(name)
      log.warn({ standby: name, silentMs: Math.round(silentMs) }, 'a named standby is silent: struck off, flips wait for the others')
    }
    for (const name of found.back) {
      // It is waited for from here on; what was committed before may have come after that look, and it must hold this too.
      struck.delete(name)
      if ((await lacking({ names: [name], struck }, TAKEN_BACK_WITHIN_MS)).length > 0) {
        struck.add(name)
        continue
      }
      await control.takeBack(name)
      log.info({ standby: name }, 'a standby that was struck off holds everything again: taken back')
    }
  }
  return {
    // Struck off or not: one that is taken back while a commit is under way has to have it before it routes.
    any: () => true,
    awaitFlushed: (signal) => lacking(named, Number.POSITIVE_INFINITY, signal),
    async run(signal) {
      while (!signal.aborted) {
        await look()
        await clock.sleep(Math.min(LOOK_MS_MAX, lostMs / LOOKS_PER_SILENCE), signal)
      }
    },
  }
}
