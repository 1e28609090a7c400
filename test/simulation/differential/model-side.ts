// Promises: a schedule's steps on the simulator's model of PostgreSQL, in virtual time.

import type { FlipRecord } from '../../../src/model/control.ts'
import { SwitchbackError } from '../../../src/model/errors.ts'
import type { ChangeStream } from '../../../src/model/source.ts'
import { leaderControl, type SimulatedLeader } from '../control.ts'
import { type Host, Kernel } from '../kernel.ts'
import { openStream } from '../leader-parts.ts'
import { Postgres } from '../postgres.ts'
import { type Backend, BackendGone, PgError, type Transaction } from '../postgres-parts.ts'
import { type LeaderAct, NOTE, POTS, SESSIONS, type SessionName, type Step, type StreamStep } from './schedule.ts'
import { Delivered, type Keys, LEADER, type Observed, roots, type Side, START_AMOUNT } from './side.ts'

const TOKEN = 1
const DEADLINE_MS = 1_000_000
/** Longer than anything of a session takes that waits for nobody. */
const QUIET_MS = 20
/** Longer than an act tries again that is refused its rows, and than a lost connection is noticed. */
const LONG_MS = 4_000

/** The next act stays invisible, with its locks, until it is closed. */
class OpenPostgres extends Postgres {
  staysOpen = false
  #close: (() => void) | null = null

  protected override becomesVisible(delayMs: number, visible: () => void): void {
    if (this.staysOpen) this.#close = visible
    else super.becomesVisible(delayMs, visible)
    this.staysOpen = false
  }

  close(): void {
    this.#close?.()
    this.#close = null
  }
}

interface Session {
  backend: Backend
  transaction: Transaction | null
  asks: boolean
}

export class ModelSide implements Side {
  readonly #kernel: Kernel
  readonly #postgres: OpenPostgres
  readonly #keys: Keys
  readonly #host: Host
  readonly #sessions = new Map<SessionName, Session>()
  readonly #leader: SimulatedLeader
  readonly #flips = new Map<number, FlipRecord>()
  readonly #slotOfFlip = new Map<string, number>()
  #answers: Record<string, string> = {}
  #stream: ChangeStream | null = null
  #delivered: Delivered
  #base = 2_000_000n

  constructor(seed: number, keys: Keys) {
    this.#kernel = new Kernel(seed, { traced: false })
    this.#kernel.heal()
    this.#postgres = new OpenPostgres(this.#kernel, keys.slots)
    this.#postgres.slotOf = (key) => keys.slotOf.get(key)!
    this.#postgres.token = TOKEN
    this.#keys = keys
    this.#host = this.#kernel.host('client')
    for (const name of SESSIONS) this.#connect(name)
    for (const key of keys.keys)
      for (const pot of POTS) this.#postgres.seed([{ key, pot, values: pot === NOTE ? null : [key, pot, START_AMOUNT, '0'], by: 0 }])
    this.#leader = leaderControl({ kernel: this.#kernel, postgres: this.#postgres, standby: null }, this.#host, TOKEN)
    this.#delivered = this.#newDelivered()
  }

  async step(step: Step, number: number): Promise<Observed> {
    this.#answers = {}
    await this.#do(step, number)
    await this.#kernel.time.advance(QUIET_MS)
    return { answers: this.#answers, waiting: this.#waiting() }
  }

  async #do(step: Step, number: number): Promise<void> {
    const keys = this.#keys.keys
    const postgres = this.#postgres
    switch (step.kind) {
      case 'begin': {
        const session = this.#sessions.get(step.session)!
        session.transaction = postgres.begin(session.backend, step.isolation)
        return
      }
      case 'write': {
        const key = keys[step.key]!
        const slot = this.#keys.slotOf.get(key)!
        return this.#ask(step.session, (transaction) =>
          postgres.update(transaction, key, slot, { [step.pot]: step.act }, number).then(String),
        )
      }
      case 'move': {
        const [from, to] = [keys[step.from]!, keys[step.to]!]
        return this.#ask(step.session, (transaction) =>
          postgres.changeKey(transaction, from, to, step.pot, number).then((row) => row?.[2] ?? ''),
        )
      }
      case 'read':
        return this.#ask(step.session, (transaction) =>
          postgres.read(transaction.backend, transaction, keys[step.key]!, POTS).then((rows) => rows.map((row) => row.slice(1)).join(' ')),
        )
      case 'commit':
        return this.#ask(step.session, (transaction) => postgres.commit(transaction).then(() => 'committed'))
      case 'rollback':
        return this.#ask(step.session, async (transaction) => {
          postgres.rollback(transaction)
          return 'rolled back'
        })
      case 'kill': {
        postgres.terminate(this.#sessions.get(step.session)!.backend)
        await this.#kernel.time.advance(QUIET_MS)
        return this.#connect(step.session)
      }
      case 'close':
        return postgres.close()
      case 'writers':
        this.#answers[LEADER] = this.#writers()
        return
      case 'owners':
        this.#answers[LEADER] = this.#owners()
        return
      case 'stream':
      case 'acknowledge':
      case 'reconnect':
        this.#answers[LEADER] = await this.#onStream(step)
        return
      default:
        return this.#act(step)
    }
  }

  #connect(name: SessionName): void {
    this.#sessions.set(name, { backend: this.#postgres.connect(this.#host, name), transaction: null, asks: false })
  }

  #ask(name: SessionName, work: (transaction: Transaction) => Promise<string>): void {
    const session = this.#sessions.get(name)!
    session.asks = true
    const answered = (answer: string) => {
      this.#answers[name] = answer
      session.asks = false
    }
    work(session.transaction!).then(answered, (error: unknown) => answered(codeOf(error)))
  }

  #waiting(): Record<string, readonly string[]> {
    const nameOf = new Map([...this.#sessions].map(([name, { backend }]) => [backend, name]))
    const holders = new Map<string, string[]>()
    for (const [name, { backend, asks }] of this.#sessions) {
      if (!asks) continue
      const names = this.#postgres.blockers(backend).map((holder) => (holder === 'leader' ? LEADER : nameOf.get(holder)!))
      holders.set(name, names)
    }
    return Object.fromEntries([...holders.keys()].map((name) => [name, roots(name, holders)]))
  }

  async #act(step: Extract<Step, { kind: 'intent' | 'flip' | 'read-only' }>): Promise<void> {
    const postgres = this.#postgres
    const before = postgres.epoch
    const { done, open } = this.#begun(step)
    postgres.staysOpen = open
    done.then(
      (answer) => {
        this.#answers[LEADER] = answer
      },
      (error: unknown) => {
        this.#answers[LEADER] = codeOf(error)
      },
    )
    await this.#kernel.time.advance(QUIET_MS)
    // It is refused its rows, and tries again.
    if (this.#answers[LEADER] === undefined && (!open || postgres.staysOpen)) await this.#kernel.time.advance(LONG_MS)
    // Nobody hears of it before it is closed: what it will be is not asked here, only that it was not refused.
    if (open && this.#answers[LEADER] === undefined) this.#answers[LEADER] = 'open'
    postgres.staysOpen = false
    if (before > postgres.epoch) throw new Error('epochs go back')
  }

  #begun(step: Extract<Step, { kind: 'intent' | 'flip' | 'read-only' }>): { done: Promise<string>; open: boolean } {
    const slot = this.#keys.slots[step.slot]!
    if (step.kind === 'read-only')
      return { done: this.#leader.setReadOnly([slot], step.on).then((epoch) => `+${epoch - 1}`), open: step.open }
    const done =
      step.kind === 'intent'
        ? this.#leader.writeIntent({ to: step.to, slots: [slot], deadlineMs: DEADLINE_MS })
        : this.#flipAct({ ...this.#flips.get(step.slot)!, deadlineMs: LONG_MS / 4 }, step.act)
    const told = done.then((flip) => {
      if (typeof flip === 'string') return 'marked'
      this.#flips.set(step.slot, flip)
      this.#slotOfFlip.set(flip.id, step.slot)
      return `${flip.state} +${flip.epoch - 1}`
    })
    return { done: told, open: step.kind === 'flip' && step.open }
  }

  #flipAct(flip: FlipRecord, act: LeaderAct): Promise<FlipRecord | string> {
    const leader = this.#leader
    switch (act) {
      case 'park':
        return leader.setPhase(flip, 'parking')
      case 'fence':
        return leader.setPhase(flip, 'fenced')
      case 'mark':
        return leader.writeMarker(flip)
      case 'commit':
      case 'commit, held':
        this.#base += 1_000n
        return leader.commitFlip(flip, { newBase: this.#base, held: act !== 'commit' })
      case 'release':
        return leader.releaseFlip(flip)
      case 'finish':
        return leader.finishFlip(flip, [])
      case 'cancel':
        return leader.cancelFlip(flip, '')
    }
  }

  #writers(): string {
    const nameOf = new Map([...this.#sessions].map(([name, { backend }]) => [backend.pid, name]))
    return this.#postgres
      .writers()
      .map(({ pid }) => nameOf.get(pid))
      .sort()
      .join(' ')
  }

  #owners(): string {
    const shown = this.#keys.slots.map((slot) => {
      const { owner, phase, readOnly, epoch, tenure } = this.#postgres.owned(slot)
      const history = this.#postgres.tenures.filter((record) => record.slot === slot).map((record) => record.owner)
      return `${owner} ${phase}${readOnly ? ' read-only' : ''} +${epoch - 1} tenure +${tenure - 1} after ${history.slice(0, -1)}`
    })
    return shown.join('; ')
  }

  #newDelivered(): Delivered {
    return new Delivered((content) => {
      const [, id, epoch] = content.split(':')
      return `marker of ${this.#slotOfFlip.get(id!)} at +${Number(epoch) - 1}`
    })
  }

  async #onStream(step: StreamStep): Promise<string> {
    if (step.kind === 'reconnect' && this.#stream !== null) {
      await this.#stream.close()
      await this.#kernel.time.advance(LONG_MS)
      this.#stream = null
      this.#delivered = this.#newDelivered()
    }
    if (this.#stream === null) {
      const opened = openStream(this.#kernel, this.#postgres, this.#host, TOKEN, () => undefined)
      this.#stream = await this.#kernel.time.run(opened)
      void this.#read(this.#stream, this.#delivered)
    }
    await this.#kernel.time.advance(LONG_MS)
    const lsn = step.kind === 'acknowledge' ? this.#delivered.endOfAllBut(step.butLast) : null
    if (lsn !== null) this.#stream.acknowledge(lsn)
    return `${this.#delivered.news()}${lsn === null ? '' : ' acknowledged'}`
  }

  async #read(stream: ChangeStream, delivered: Delivered): Promise<void> {
    try {
      for await (const transaction of stream.transactions(new AbortController().signal)) delivered.take(transaction)
    } catch {
      // It broke off: whoever reconnects reads on.
    }
  }
}

function codeOf(error: unknown): string {
  if (error instanceof BackendGone) return 'gone'
  if (error instanceof PgError || error instanceof SwitchbackError) return error.code
  throw error
}
