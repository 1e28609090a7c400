// Promises: named standbys are watched for as long as this controller leads: one that is silent for standbyLostMs is struck off in the
// journal, and taken back there once it holds everything again; and whoever waits for standbys waits for the others (protocols.md,
// Durable control). With none named nothing is asked.
import type { Logger } from 'pino'
import type { FlipStandbys } from '../flip/parts.ts'
import type { Clock } from '../lib/clock.ts'
import type { MigrationConfig } from '../model/migration.ts'
import { lookAtStandbys, type StandbySightings, standbysBehind } from '../model/standby.ts'
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

export async function watchStandbys(options: StandbyWatchOptions): Promise<StandbyWatch> {
  const { control, clock, log } = options
  const names = [...new Set(options.source.standbys ?? [])]
  const lostMs = options.source.standbyLostMs ?? STANDBY_LOST_MS
  if (names.length === 0) return { any: () => false, awaitFlushed: async () => [], run: async () => undefined }
  const struck = new Set((await control.struck()).map(({ name }) => name).filter((name) => names.includes(name)))
  const named = { names, struck }
  let sightings: StandbySightings = new Map()
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
      await control.takeBack(name)
      struck.delete(name)
      log.info({ standby: name }, 'a standby that was struck off holds everything again: taken back')
    }
  }
  return {
    any: () => names.some((name) => !struck.has(name)),
    async awaitFlushed(signal) {
      const first = await control.standbys()
      let behind = standbysBehind(named, first.rows, first.flushedHere)
      for (let waitMs = FLUSHED_LOOK_MS.first; behind.length > 0 && !signal.aborted; waitMs = Math.min(waitMs * 2, FLUSHED_LOOK_MS.max)) {
        await clock.sleep(waitMs, signal)
        behind = standbysBehind(named, (await control.standbys()).rows, first.flushedHere)
      }
      return behind
    },
    async run(signal) {
      while (!signal.aborted) {
        await look()
        await clock.sleep(Math.min(LOOK_MS_MAX, lostMs / LOOKS_PER_SILENCE), signal)
      }
    },
  }
}
