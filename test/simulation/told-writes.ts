// Promises: what clients hear of their transactions, told to the history and to the log of each key, whoever the client is.
import { hasCode, SwitchbackError } from '../../src/model/errors.ts'
import { SqlError } from '../../src/model/plan.ts'
import type { Txn } from '../commit/history.ts'
import type { Acts } from './acts.ts'
import type { Entry, Missed } from './aggregate-log.ts'
import { PgError } from './postgres-parts.ts'
import { ConnectionLost } from './sessions.ts'
import { NOTE, type World } from './world.ts'

/** Who writes past the gateways. */
export const DIRECT = 'direct writer'

/** What one transaction does to one key, and what it was told of that. */
export interface Part {
  readonly key: string
  readonly acts: Acts
  readonly entry: Entry
  told: readonly string[]
  missed: Missed
}

export interface Write {
  readonly txn: Txn
  readonly parts: [Part, ...Part[]]
}

const KNOWN_ERRORS = [SwitchbackError, SqlError, PgError, ConnectionLost]

/** The session ended before COMMIT was sent: nothing takes effect any more. */
export class ConnectionEnded extends SwitchbackError {
  constructor(because: SwitchbackError) {
    super('GATEWAY_CLOSING', {}, because)
  }
}

export class ToldWrites {
  readonly #world: World

  constructor(world: World) {
    this.#world = world
  }

  begin(key: string, acts: Acts): Write {
    const txn = this.#world.history.begin(key, Object.keys(acts), this.#world.kernel.now)
    return { txn, parts: [this.part(txn, key, acts)] }
  }

  part({ id, beganAt }: Txn, key: string, acts: Acts): Part {
    return { key, acts, entry: this.#world.log.begun(key, acts, id, beganAt), told: [], missed: 'with it' }
  }

  end(who: string, { txn, parts }: Write, error: unknown): Txn['state'] {
    const { kernel, log } = this.#world
    const { now } = kernel
    const unknown = error instanceof ConnectionLost || hasCode(error, 'OUTCOME_UNKNOWN')
    // A statement that found no row was a read.
    const nothing = error === null && parts.every(({ told }) => told.length === 0)
    const state = nothing ? 'refused' : error === null ? 'acked' : unknown ? 'unknown' : 'refused'
    if (!(error === null || KNOWN_ERRORS.some((known) => error instanceof known)))
      kernel.violated('bug', String(error instanceof Error ? error.stack : error))
    this.#world.history.end(txn, state, now)
    const duplicate = (error instanceof SqlError && error.sqlstate === '23505') || (error instanceof PgError && error.code === '23505')
    for (const { key, acts, entry, told, missed } of parts) {
      // Past the gateways PostgreSQL answers from what it has: of no row of its own it need not know whose the key is.
      if (nothing && who === DIRECT) log.refused(entry, key)
      else if (error === null) log.wrote(entry, key, acts, told, now, missed)
      else if (duplicate && parts.length === 1) log.wasThere(entry, key, acts, now)
      else if (!unknown) log.refused(entry, key)
      else if (missed !== 'with it') log.perhapsWithout(entry, key, acts, NOTE)
    }
    const why = error === null ? '' : ` (${(error as Error).message})`
    kernel.told(who, () => `transaction ${txn.id} on ${parts.map(({ key }) => key)} is ${nothing ? 'of no row' : state}${why}`)
    return state
  }
}
