// Promises: the leader's side of the control schema over PostgreSQL. Every act is one function of the schema, so one round trip and
// one transaction, in which the token is compared. Acts that lock ownership rows are refused at once when somebody holds one, and
// are tried again holding nothing, until the flip's deadline (protocols.md, Guard, Old snapshots; faults.md 66).
import { backoffMs } from '../lib/backoff.ts'
import { type Clock, systemClock } from '../lib/clock.ts'
import { type Random, systemRandom } from '../lib/prng.ts'
import type { FlipRecord, LeaderControl, LeaseRow } from '../model/control.ts'
import { SwitchbackError } from '../model/errors.ts'
import { type Epoch, NO_LSN, parseLsn, type SlotId } from '../model/ids.ts'
import type { AggregateKey } from '../model/key.ts'
import type { RoutingView } from '../model/ownership.ts'
import { Tenures } from '../model/tenures.ts'
import { JOB_CHANNEL } from './jobs.ts'
import { BEAT_MS, type Lead, type LeadershipOptions, leaderApplicationName, takeToken } from './leadership.ts'
import { LEASE_CHANNEL } from './schema-functions.ts'
import { isLockRefusal, openSession, type Session, type TextRow } from './session.ts'
import { readStandbys, STRUCK_OFF, type StandbysSeen, type Struck, struckStandbys, TAKEN_BACK } from './standbys.ts'
import { debtOf, flipOf, mergedView, partialOf, poisonOf, sequencesOf, tenureRecords } from './view-rows.ts'
import { writersNow, writersStillThere } from './writers.ts'

export interface LeaderOptions extends LeadershipOptions {
  /** Called once when this controller leads no more: it stops all its engines. */
  readonly onLost: (error: Error) => void
  readonly random?: Random
}

/** What the composition needs beyond the flip's contract. */
export interface PostgresLeaderControl extends LeaderControl {
  /** Calls back when a lease row may have changed. */
  onLeaseChange(call: () => void): () => void
  /** Calls back when an order or a ramp may have been placed, or have changed. A hint: who waits for it also looks by itself. */
  onOrder(call: () => void): () => void
  /** Whether the mapped tables are as planned. */
  catalogUnchanged(): Promise<boolean>
  /** Makes a key a slot of its own; counts when every lease has acked the new epoch or is over. */
  splitPin(key: AggregateKey): Promise<SlotId>
  /** A decision that is no flip: a standby struck off, a debt. */
  journal(kind: string, detail: Readonly<Record<string, unknown>>): Promise<void>
  standbys(): Promise<StandbysSeen>
  /** Named standbys that flips do not wait for any more. */
  struck(): Promise<readonly Struck[]>
  strikeOff(name: string, silentMs: number): Promise<void>
  takeBack(name: string): Promise<void>
}

const ROWS_BACKOFF = { firstMs: 2, capMs: 50 }
const READ_ONLY_DEADLINE_MS = 10_000
const BIND_DEADLINE_MS = 10_000
/** The cancel of a flip whose deadline has passed still gets its rows: bounded by its own time. */
const CANCEL_DEADLINE_MS = 30_000
const BEAT_TIMEOUT_MS = 2_000

const FLIP_COLUMNS = 'f.id, f.owner_to, f.slots, f.state, f.epoch, f.deadline_ms, f.started_at, f.steps'

/** Leads, or null: another one lives and leads. A dead one is replaced within 5 s. */
export async function takeLead(options: LeaderOptions): Promise<PostgresLeaderControl | null> {
  const lead = await takeToken(options)
  if (lead === null) return null
  const leader = new Leader(options, lead)
  await leader.start()
  return leader.control()
}

class Leader {
  readonly #options: LeaderOptions
  readonly #lead: Lead
  readonly #clock: Clock
  readonly #random: Random
  readonly #leaseListeners = new Set<() => void>()
  readonly #orderListeners = new Set<() => void>()
  readonly #stop = new AbortController()
  #session: Session | null = null
  #lost: Error | null = null
  #view: RoutingView | null = null
  #tenures = new Tenures([])
  #knownTenure = 0

  constructor(options: LeaderOptions, lead: Lead) {
    this.#options = options
    this.#lead = lead
    this.#clock = options.clock ?? systemClock
    this.#random = options.random ?? systemRandom
  }

  async start(): Promise<void> {
    const { client, token } = this.#lead
    client.on('error', (error) => this.#lose(error))
    client.on('end', () => this.#lose(new Error('the connection that holds the lead was closed')))
    try {
      this.#session = await openSession({
        connect: this.#options.connect,
        applicationName: leaderApplicationName(token, 'control'),
        listen: [LEASE_CHANNEL, JOB_CHANNEL],
        onWake: (channel) => {
          // Without a channel: connected again, and some may have been missed.
          if (channel !== JOB_CHANNEL) for (const call of this.#leaseListeners) call()
          if (channel !== LEASE_CHANNEL) for (const call of this.#orderListeners) call()
        },
        clock: this.#clock,
        random: this.#random,
      })
    } catch (error) {
      await client.end().catch(() => undefined)
      throw error
    }
    void this.#beat() // ends with close or loss
  }

  control(): PostgresLeaderControl {
    const token = this.#lead.token
    return {
      token,
      view: () => this.#readView(),
      tenures: () => this.#readTenures(),
      leases: async () => (await this.#query(LEASES)).map(leaseOf),
      endLeases: async (seen) => {
        const values = [token, seen.map((s) => s.lease), seen.map((s) => s.renewals)]
        return (await this.#query('select l as lease from switchback.end_leases($1, $2, $3) l', values)).map((row) => row.lease!)
      },
      bind: async () => {
        const act = () => this.#query('select switchback.bind($1) as epoch', [token])
        return Number((await this.#untilFree(BIND_DEADLINE_MS, act))[0]!.epoch)
      },
      openFlips: async () => (await this.#query(OPEN_FLIPS)).map(flipOf),
      writeIntent: (flip) => this.#writeIntent(flip),
      setPhase: (flip, phase, signal) =>
        this.#untilFree(flip.deadlineMs, () => this.#flip('set_phase($1, $2, $3)', [flip.id, phase]), signal),
      waitSet: async (excused) => writersNow(this.#live(), excused),
      stillThere: async (writers) => writersStillThere(this.#live(), writers),
      writeMarker: async (flip) => (await this.#query('select switchback.write_marker($1, $2) as marker', [token, flip.id]))[0]!.marker!,
      commitFlip: (flip, { newBase, held }) =>
        this.#untilFree(flip.deadlineMs, () => this.#flip('commit_flip($1, $2, $3, $4)', [flip.id, newBase.toString(), held])),
      releaseFlip: (flip) => this.#untilFree(CANCEL_DEADLINE_MS, () => this.#flip('release_flip($1, $2)', [flip.id])),
      commitInDebt: (flip, { newBase, held }) =>
        this.#untilFree(flip.deadlineMs, () => this.#flip('commit_in_debt($1, $2, $3, $4)', [flip.id, newBase.toString(), held])),
      splitFlip: (flip, go) => this.#splitFlip(flip, go),
      debts: async () => (await this.#query(DEBTS)).map(debtOf),
      settleDebts: async (debts) => {
        await this.#query('select switchback.settle_debts($1, $2, $3)', [token, debts.map((d) => d.slot), debts.map((d) => d.tenure)])
      },
      cancelFlip: (flip, because) => this.#untilFree(CANCEL_DEADLINE_MS, () => this.#flip('cancel_flip($1, $2, $3)', [flip.id, because])),
      finishFlip: (flip, steps) =>
        this.#untilFree(CANCEL_DEADLINE_MS, () => this.#flip('finish_flip($1, $2, $3)', [flip.id, JSON.stringify(steps)])),
      setReadOnly: (slots, readOnly, signal) => this.#setReadOnly(slots, readOnly, signal),
      highestApplied: async (slots) => Number((await this.#query(HIGHEST_APPLIED, [[...slots]]))[0]!.version),
      currentWalLsn: async () => parseLsn((await this.#query('select pg_current_wal_insert_lsn()::text as lsn'))[0]!.lsn!),
      poison: async () => (await this.#query(POISON)).map(poisonOf),
      close: () => this.#close(),
      onLeaseChange: (call) => {
        this.#leaseListeners.add(call)
        return () => this.#leaseListeners.delete(call)
      },
      onOrder: (call) => {
        this.#orderListeners.add(call)
        return () => this.#orderListeners.delete(call)
      },
      catalogUnchanged: async () => (await this.#query(CATALOG_UNCHANGED))[0]!.same === 't',
      splitPin: async (key) => {
        this.#knownTenure = 0 // the pin takes its parent's history: older tenures appear
        const [row] = await this.#untilFree(READ_ONLY_DEADLINE_MS, () =>
          this.#query('select switchback.split_pin($1, $2) as slot', [token, key]),
        )
        return Number(row!.slot)
      },
      journal: (kind, detail) => this.#journal(kind, detail),
      standbys: () => readStandbys(this.#live()),
      struck: () => struckStandbys(this.#live()),
      strikeOff: (name, silentMs) => this.#journal(STRUCK_OFF, { name, silentMs: Math.round(silentMs) }),
      takeBack: (name) => this.#journal(TAKEN_BACK, { name }),
    }
  }

  async #journal(kind: string, detail: Readonly<Record<string, unknown>>): Promise<void> {
    await this.#query('select switchback.append_journal($1, $2, $3)', [this.#lead.token, kind, JSON.stringify(detail)])
  }

  #live(): Session {
    if (this.#lost !== null) throw new SwitchbackError('TOKEN_STALE', { token: this.#lead.token }, this.#lost)
    return this.#session!
  }

  async #query(text: string, values: readonly unknown[] = []): Promise<readonly TextRow[]> {
    try {
      return await this.#live().query(text, values)
    } catch (error) {
      if (error instanceof SwitchbackError && error.code === 'TOKEN_STALE') this.#lose(error)
      throw error
    }
  }

  async #flip(call: string, values: readonly unknown[]): Promise<FlipRecord> {
    const rows = await this.#query(`select ${FLIP_COLUMNS} from switchback.${call} f`, [this.#lead.token, ...values])
    return flipOf(rows[0]!)
  }

  async #splitFlip(flip: FlipRecord, go: readonly SlotId[]): ReturnType<LeaderControl['splitFlip']> {
    const rows = await this.#query(`select ${FLIP_COLUMNS} from switchback.split_flip($1, $2, $3) f`, [this.#lead.token, flip.id, [...go]])
    const records = rows.map(flipOf)
    return { go: records.find((record) => record.id === flip.id)!, rest: records.find((record) => record.id !== flip.id)! }
  }

  async #writeIntent(flip: Parameters<LeaderControl['writeIntent']>[0]): Promise<FlipRecord> {
    const values = [flip.to, [...flip.slots], Math.ceil(flip.deadlineMs)]
    const record = await this.#untilFree(flip.deadlineMs, () => this.#flip('write_intent($1, $2, $3, $4)', values))
    // Read whole before anything is parked: in the pause only what is newer is read.
    await Promise.all([this.#readView(), this.#readTenures()])
    return record
  }

  /** Never waits while it holds a row: a refused try has rolled back. */
  async #untilFree<T>(deadlineMs: number, act: () => Promise<T>, signal?: AbortSignal): Promise<T> {
    const deadline = this.#clock.monotonicMs() + deadlineMs
    for (let attempt = 0; ; attempt++) {
      try {
        return await act()
      } catch (error) {
        if (!isLockRefusal(error)) throw error
        if (signal?.aborted || this.#clock.monotonicMs() > deadline) {
          throw new SwitchbackError('ROWS_HELD', { holders: await this.#holders() }, error)
        }
      }
      await this.#clock.sleep(backoffMs(attempt, ROWS_BACKOFF, this.#random), signal)
    }
  }

  async #holders(): Promise<string[]> {
    const rows = await this.#query(HOLDERS)
    return rows.map((row) => `pid ${row.pid} (${row.usename}, ${row.age_ms} ms in): ${(row.query ?? '').slice(0, 120)}`)
  }

  async #readView(): Promise<RoutingView> {
    const [row] = await this.#query('select v.epoch, v.binding_epoch, v.owned, v.pins from switchback.view_since($1) v', [
      this.#view?.epoch ?? 0,
    ])
    // Two reads may be answered out of order: an older one never replaces a newer one.
    const read = mergedView(row!, this.#view)
    if (this.#view === null || read.epoch >= this.#view.epoch) this.#view = read
    return this.#view
  }

  /** Rows of the history never change once they have a first LSN, so only newer ones are read again. */
  async #readTenures(): Promise<Tenures> {
    const known = this.#knownTenure
    const newer = tenureRecords((await this.#query(TENURES, [known]))[0]!.tenures!)
    if (known !== this.#knownTenure) return this.#readTenures() // another read came between
    if (newer.length > 0) this.#tenures = new Tenures(newer, known === 0 ? undefined : this.#tenures)
    const complete = known > 0 || newer.every((record) => record.firstLsn !== NO_LSN)
    if (complete) this.#knownTenure = newer.reduce((max, record) => Math.max(max, record.tenure), known)
    return this.#tenures
  }

  async #setReadOnly(slots: readonly SlotId[], readOnly: boolean, signal?: AbortSignal): Promise<Epoch> {
    const values = [this.#lead.token, [...slots], readOnly]
    const act = () => this.#query('select switchback.set_read_only($1, $2, $3) as epoch', values)
    return Number((await this.#untilFree(READ_ONLY_DEADLINE_MS, act, signal))[0]!.epoch)
  }

  async #beat(): Promise<void> {
    const { client, token } = this.#lead
    while (this.#lost === null && !this.#stop.signal.aborted) {
      const query = { text: 'select switchback.beat($1) as leads', values: [token], query_timeout: BEAT_TIMEOUT_MS }
      try {
        const { rows } = await client.query<{ leads: boolean }>(query)
        if (!rows[0]!.leads) return this.#lose(new SwitchbackError('TOKEN_STALE', { token }))
      } catch (error) {
        return this.#lose(error as Error)
      }
      await this.#clock.sleep(this.#options.beatMs ?? BEAT_MS, this.#stop.signal)
    }
  }

  #lose(error: Error): void {
    if (this.#lost !== null || this.#stop.signal.aborted) return
    this.#lost = error
    this.#stop.abort()
    destroy(this.#lead.client)
    void this.#session?.close() // nothing waits for it: its backend is the successor's to end
    this.#options.onLost(error)
  }

  async #close(): Promise<void> {
    this.#stop.abort()
    this.#lost ??= new Error('closed')
    await this.#session?.close()
    await this.#lead.client.end().catch(() => undefined)
  }
}

const LEASES = `
select l.id, l.gateway, l.renewals, l.acked_epoch, l.over, l.next_sequences::text as next_sequences, l.excused::text as excused,
       l.partial::text as partial
  from switchback.lease l order by l.opened_at, l.id`

const OPEN_FLIPS = `
select ${FLIP_COLUMNS}
  from switchback.flip x cross join lateral switchback.flip_rows(x) f
 where x.state not in ('cancelled', 'routed') order by x.number`

const TENURES = `
select string_agg(concat_ws(',', t.slot, t.tenure, t.owner, t.base, t.first_lsn), ';') as tenures
  from switchback.tenure t where t.tenure > $1`

/** One probe of the index a slot. */
const HIGHEST_APPLIED = `
select coalesce(max(newest.version), 0) as version
  from switchback.ownership o
  cross join lateral (select a.version from switchback.applied a
                       where a.slot = o.slot and a.tenure = o.tenure order by a.version desc limit 1) newest
 where o.slot = any ($1)`

const POISON = `select p.key, p.slot, p.tenure, p.version, p.sqlstate, p.message, p.retrying from switchback.poison p order by p.at, p.key`

const CATALOG_UNCHANGED = `select s.planned_tables is not distinct from switchback.tables_digest() as same from switchback.state s`

const DEBTS = `select d.slot, d.flip, d.tenure from switchback.debt d order by d.slot`

const HOLDERS = `
select distinct l.pid, a.usename, round(extract(epoch from clock_timestamp() - a.xact_start) * 1000) as age_ms, a.query
  from pg_locks l left join pg_stat_activity a on a.pid = l.pid
 where l.locktype = 'relation' and l.granted and l.mode in ('RowShareLock', 'RowExclusiveLock', 'AccessExclusiveLock')
   and l.database = (select d.oid from pg_database d where d.datname = current_database())
   and (l.relation in ('switchback.ownership'::regclass, 'switchback.state'::regclass)
        or l.mode = 'AccessExclusiveLock' and l.relation in (select r.relation from switchback.relations() as r(relation)))
   and l.pid is distinct from pg_backend_pid()`

function leaseOf(row: TextRow): LeaseRow {
  return {
    lease: row.id!,
    gateway: row.gateway!,
    renewals: Number(row.renewals),
    ackedEpoch: Number(row.acked_epoch),
    over: row.over === 't',
    nextSequences: sequencesOf(row.next_sequences!),
    excused: JSON.parse(row.excused!) as LeaseRow['excused'],
    partial: partialOf(row['partial'] ?? null),
  }
}

/** end() waits for a query that may never be answered. */
function destroy(client: Lead['client']): void {
  ;(client as unknown as { connection?: { stream?: { destroy(): void } } }).connection?.stream?.destroy()
}
