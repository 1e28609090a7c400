// Promises: one leader. A standby watches the leader's heartbeat by its own monotonic clock; it takes over when the leader's
// connection is gone, or when the heart has stood still for `leaderLostMs` (its sockets may be half open). It first ends the
// backends of older leaders and waits until they are gone, since a half-dead one holds slot, origin and row locks; then it raises
// the token, which every act compares (protocols.md, One leader; faults.md 5, 56).

import { hostname } from 'node:os'
import type pg from 'pg'
import { type Clock, systemClock } from '../lib/clock.ts'
import { SwitchbackError } from '../model/errors.ts'
import { type Connect, PINNED } from './session.ts'

/** A leader that leads holds it for its session; a standby holds it while it takes over. */
const LEADER_LOCK = 0x5377_6c64

export interface LeadershipOptions {
  readonly connect: Connect
  readonly clock?: Clock
  /** A heart that stood still for so long is dead. Below 5 s with all that follows. */
  readonly leaderLostMs?: number
  readonly beatMs?: number
  /** For people: who leads. */
  readonly name?: string
}

export interface Lead {
  readonly token: number
  readonly client: pg.Client
}

const LEADER_LOST_MS = 2_500
export const BEAT_MS = 500
const WATCH_MS = 100
const END_OLD_MS = 2_000

/**
 * Each of the leader's connections carries it, the replication stream and the reverse appliers too: a successor ends those whose
 * token is older than its own.
 */
export function leaderApplicationName(token: number, purpose: string): string {
  return `switchback leader ${token} ${purpose}`.slice(0, 63)
}

/** Null: another one lives and leads. */
export async function takeToken(options: LeadershipOptions): Promise<Lead | null> {
  const clock = options.clock ?? systemClock
  const client = await options.connect('switchback standby')
  client.on('error', () => undefined)
  try {
    await client.query(PINNED)
    if (!(await isFree(client))) {
      const stale = await staleToken(client, options, clock)
      if (stale === null) return await giveUp(client)
      await endOlderLeaders(client, stale, clock)
      // Two standbys may have come so far: the lock says which one goes on.
      if (!(await isFree(client))) return await giveUp(client)
    }
    const { rows } = await client.query<{ token: string }>('select token::text as token from switchback.leader')
    await endOlderLeaders(client, Number(rows[0]!.token), clock)
    const token = await raiseToken(client, options.name ?? hostname())
    await client.query(`select set_config('application_name', $1, false)`, [leaderApplicationName(token, 'lead')])
    // Those that an older leader opened between the look and the new token: their acts fail, but they may hold slot and origin.
    await endOlderLeaders(client, token - 1, clock)
    await client.query('set synchronous_commit = off') // from here on only heartbeats, which nobody needs after a crash
    return { token, client }
  } catch (error) {
    await client.end().catch(() => undefined)
    throw error
  }
}

async function giveUp(client: pg.Client): Promise<null> {
  await client.end().catch(() => undefined)
  return null
}

async function isFree(client: pg.Client): Promise<boolean> {
  const { rows } = await client.query<{ free: boolean }>('select pg_try_advisory_lock($1) as free', [LEADER_LOCK])
  return rows[0]!.free
}

/** The token of a leader whose heart stood still all the time; null as soon as it beats. */
async function staleToken(client: pg.Client, options: LeadershipOptions, clock: Clock): Promise<number | null> {
  const read = async () => {
    const { rows } = await client.query<{ beats: string; token: string }>(
      'select h.beats::text as beats, l.token::text as token from switchback.heartbeat h, switchback.leader l',
    )
    return rows[0]!
  }
  const first = await read()
  const deadline = clock.monotonicMs() + (options.leaderLostMs ?? LEADER_LOST_MS)
  while (clock.monotonicMs() < deadline) {
    await clock.sleep(WATCH_MS)
    const now = await read()
    if (now.beats !== first.beats || now.token !== first.token) return null
  }
  return Number(first.token)
}

/** Ends the backends of leaders up to this token, and of nobody else; waits until they are gone. */
async function endOlderLeaders(client: pg.Client, upTo: number, clock: Clock): Promise<void> {
  const deadline = clock.monotonicMs() + END_OLD_MS
  for (let waitMs = 1; ; waitMs = Math.min(waitMs * 2, 50)) {
    const { rows } = await client.query<{ pid: string }>(
      `select a.pid::text as pid, pg_terminate_backend(a.pid) as asked
         from pg_stat_activity a
        where a.datname = current_database() and a.pid <> pg_backend_pid()
          and a.application_name ~ '^switchback leader [0-9]{1,15} '
          and split_part(a.application_name, ' ', 3)::bigint <= $1`,
      [upTo],
    )
    if (rows.length === 0) return
    if (clock.monotonicMs() > deadline) {
      const pids = rows.map((row) => row.pid).join(', ')
      throw new SwitchbackError('CONTROL_UNREACHABLE', { reason: `backends ${pids} of an older leader do not end` })
    }
    await clock.sleep(waitMs)
  }
}

async function raiseToken(client: pg.Client, name: string): Promise<number> {
  const { rows } = await client.query<{ token: string }>(
    `with raised as (
       update switchback.leader l set token = l.token + 1, name = $1, since = clock_timestamp() returning l.token
     ), journaled as (
       insert into switchback.journal (token, epoch, kind, detail)
         select r.token, s.epoch, 'lead', jsonb_build_object('name', $1::text) from raised r, switchback.state s
     )
     update switchback.heartbeat h set token = r.token, beats = h.beats + 1 from raised r returning h.token::text as token`,
    [name],
  )
  return Number(rows[0]!.token)
}
