// Promises: the service: sessions through gateways, and beside them one writer that goes to PostgreSQL past them.
import { hasCode, SwitchbackError } from '../../src/model/errors.ts'
import type { SlotId } from '../../src/model/ids.ts'
import { hashSlotOf } from '../../src/model/key.ts'
import type { KeyedPlan } from '../../src/model/plan.ts'
import type { Row } from '../../src/model/row.ts'
import { all, ENV, one } from '../commit/fake-plans.ts'
import type { History, Read, Txn } from '../commit/history.ts'
import { actsPlan } from './acts.ts'
import { writeDirectly } from './direct-writer.ts'
import type { Gateway, OpenWork } from './gateway.ts'
import type { Host } from './kernel.ts'
import type { Transaction } from './postgres-parts.ts'
import { Connection, ConnectionLost } from './sessions.ts'
import { ConnectionEnded, type Part, ToldWrites } from './told-writes.ts'
import { KEYS, NOTE, POT_NAMES, ROW_NAMES, SLOTS, type World } from './world.ts'

const STATEMENT_BYTES = 100
const BURSTS = 1
const BURST = 8
const COMES_AGAIN_MS = 40

export class Clients {
  readonly #world: World
  readonly #gateways: readonly Gateway[]
  readonly #told: ToldWrites

  constructor(world: World, gateways: readonly Gateway[]) {
    this.#world = world
    this.#told = new ToldWrites(world)
    this.#gateways = gateways
  }

  get #history(): History {
    return this.#world.history
  }

  start(clients: number): void {
    for (let i = 0; i < clients; i++) this.#run(`client ${i}`, this.#gateways[i % this.#gateways.length]!)
    void writeDirectly(this.#world, this.#told)
    void this.#bursts()
  }

  /** Many calls at once through one gateway, on the two keys of a slot: more than a bucket of its outbox holds. */
  async #bursts(): Promise<void> {
    const { kernel, postgres } = this.#world
    for (let left = BURSTS; left > 0; ) {
      await new Promise<void>((resolve) => kernel.time.after(kernel.between(10, 40), resolve))
      if (this.#world.over) return
      const slot = kernel.oneOf(SLOTS)
      const gateway = kernel.oneOf(this.#gateways)
      if (postgres.owned(slot).owner !== 'target' || gateway.lease === null || this.#world.begun >= this.#world.allowed) continue
      left--
      this.burst(gateway, slot)
    }
  }

  burst(gateway: Gateway, slot: SlotId): void {
    const { kernel } = this.#world
    const keys = KEYS.filter((key) => hashSlotOf(key) === slot)
    for (let i = 0; i < BURST; i++) {
      this.#world.begun++
      this.#alone(gateway, null, keys[i % keys.length]!).catch((error: unknown) => {
        if (!(error instanceof ConnectionLost)) kernel.violated('bug', String(error instanceof Error ? error.stack : error))
      })
    }
  }

  /** A client lives as long as its gateway's process: its session dies with it. Another one comes. */
  #run(name: string, gateway: Gateway): void {
    const { kernel } = this.#world
    const host = gateway.host
    gateway.onCrash.push(() => kernel.time.after(kernel.between(1, COMES_AGAIN_MS), () => this.#run(name, gateway)))
    void this.#session(name, gateway, host)
  }

  async #session(name: string, gateway: Gateway, host: Host): Promise<void> {
    const { kernel } = this.#world
    let connection: Connection | null = null
    for (;;) {
      await kernel.sleep(host, kernel.between(5, 60))
      const world = this.#world
      if (world.over || gateway.lease === null) continue
      const key = kernel.oneOf(KEYS)
      const kind = kernel.random.next()
      if (kind > 0.55 && world.begun >= world.allowed) continue
      try {
        connection ??= await Connection.open(kernel, world.postgres, host, name)
        if (connection.lost) throw new ConnectionLost('')
        if (kind < 0.3) await this.#readAll(gateway, connection, key)
        else if (kind < 0.55) await this.#readTwo(gateway, connection, key)
        else {
          world.begun++
          if (kind < 0.8) await this.#alone(gateway, connection, key)
          else await this.#explicit(gateway, host, connection, key)
        }
      } catch (error) {
        if (!(error instanceof ConnectionLost)) kernel.violated('bug', String(error instanceof Error ? error.stack : error))
        connection?.close()
        connection = null
      }
    }
  }

  /** One statement that is its own transaction; `connection` null: of a session whose own is not looked at before it is needed. */
  async #alone(gateway: Gateway, connection: Connection | null, key: string, acts = this.#world.acts()): Promise<Txn['state']> {
    const write = this.#told.begin(key, acts)
    const [part] = write.parts
    const { gate } = gateway
    let failure: unknown = null
    try {
      for (;;) {
        const facts = { touch: hashSlotOf(key), writes: true }
        const decision = await gate.admit(facts, STATEMENT_BYTES, this.#world.never)
        if (decision.kind === 'refuse') throw decision.error
        if (decision.kind === 'source') await this.#onSource(gateway, connection ?? (await this.#connect(gateway)), part, write.txn.id)
        else {
          const result = await this.#onTarget(gateway, key, actsPlan(key, part.acts, write.txn.id), true)
          if (result === null) continue
          part.told = result.rows.map(([told]) => told!)
        }
        break
      }
    } catch (error) {
      failure = error
    }
    const state = this.#told.end(gateway.name, write, failure)
    if (failure instanceof ConnectionLost) throw failure
    return state
  }

  #connect({ host, name }: Gateway): Promise<Connection> {
    return Connection.open(this.#world.kernel, this.#world.postgres, host, name)
  }

  /** In calm weather each key takes a write, each through another gateway; the keys of which one was acknowledged, as it comes. */
  eachKeyTakesOne(): ReadonlySet<string> {
    const { kernel } = this.#world
    const served = new Set<string>()
    const serve = async (key: string, gateway: Gateway) => {
      const { host } = gateway
      while (!served.has(key)) {
        await kernel.sleep(host, kernel.between(1, 20))
        let connection: Connection | null = null
        try {
          connection = await this.#connect(gateway)
          if ((await this.#alone(gateway, connection, key, { [kernel.oneOf(POT_NAMES)]: 0 })) === 'acked') served.add(key)
        } catch (error) {
          // It may be cut by what came before the weather was calm.
          if (!(error instanceof ConnectionLost)) throw error
        }
        connection?.close()
      }
    }
    for (const [i, key] of KEYS.entries()) {
      const gateway = this.#gateways[i % this.#gateways.length]!
      serve(key, gateway).catch((error: unknown) => kernel.violated('bug', String(error)))
    }
    return served
  }

  /** Read-only is in force when everything that a lease has begun has ended: nothing is acknowledged after it. */
  #mustTakeWrites(key: string): void {
    const { kernel, postgres } = this.#world
    if (postgres.closed.has(hashSlotOf(key))) kernel.violated('read-only', `a write to ${key} is acknowledged on the target`)
  }

  /** As target-arm's runAlone. Null: it is routed again. */
  async #onTarget(gateway: Gateway, key: string, plan: KeyedPlan, writes: boolean): Promise<{ rows: readonly Row[] } | null> {
    const { gate, executor } = gateway
    const decision = gate.decide({ touch: gate.view!.slotOf(key), writes })
    if (decision.kind === 'refuse') throw decision.error
    if (decision.kind !== 'target') return null
    const lease = gate.lease
    if (lease === null) throw new SwitchbackError('NO_LEASE')
    const work = gate.beginTarget({ slot: decision.row.slot, writes, explicit: false, interrupt: null })
    try {
      const result = await executor.autocommit(lease, gateway.addressOf(decision.row, key), plan, [], ENV)
      if (!lease.holds()) throw ended(lease.id, writes)
      if (writes) this.#mustTakeWrites(key)
      return result
    } catch (error) {
      if (hasCode(error, 'AGGREGATE_MOVING')) return null
      throw error
    } finally {
      work.end()
    }
  }

  async #onSource(gateway: Gateway, connection: Connection, part: Part, by: number): Promise<void> {
    const { gate } = gateway
    const { postgres } = this.#world
    const slot = hashSlotOf(part.key)
    const work = gate.beginSource({ explicit: false })
    gate.touch(work, { touch: slot, writes: true })
    part.missed = 'before it'
    try {
      part.told = await connection.call(async (backend) => {
        const transaction = postgres.begin(backend, 'read committed')
        const told = await postgres.update(transaction, part.key, slot, part.acts, by)
        await postgres.commit(transaction)
        return told
      })
      if (!work.lease.holds()) throw ended(work.lease.id, true)
    } finally {
      work.end()
    }
  }

  /** BEGIN; perhaps a read; the write; perhaps a pause; COMMIT. */
  async #explicit(gateway: Gateway, host: Host, connection: Connection, key: string): Promise<void> {
    const write = this.#told.begin(key, this.#world.acts())
    const [part] = write.parts
    const { gate } = gateway
    let failure: unknown = null
    try {
      const decision = await gate.admit({ touch: hashSlotOf(key), writes: true }, STATEMENT_BYTES, this.#world.never)
      if (decision.kind === 'refuse') throw decision.error
      const isolation = this.#world.kernel.chance(0.5) ? 'repeatable read' : 'read committed'
      if (decision.kind === 'target') await this.#openOnTarget(gateway, host, part, write.txn.id, isolation)
      else await this.#openOnSource(gateway, host, connection, part, write.txn.id, isolation)
    } catch (error) {
      failure = error
    }
    this.#told.end(gateway.name, write, failure)
    if (failure instanceof ConnectionLost) throw failure
  }

  async #openOnTarget(
    gateway: Gateway,
    host: Host,
    part: Part,
    by: number,
    isolation: 'read committed' | 'repeatable read',
  ): Promise<void> {
    const { kernel } = this.#world
    const { key } = part
    const { gate, executor } = gateway
    const decision = gate.decide({ touch: hashSlotOf(key), writes: true })
    const lease = gate.lease
    if (decision.kind !== 'target' || lease === null) throw new SwitchbackError('KEY_MOVED')
    const transaction = executor.begin(lease, gateway.addressOf(decision.row, key), { isolation })
    let committing = false
    let interrupted: SwitchbackError | null = null
    const interrupt = (because: SwitchbackError) => {
      interrupted ??= because
      transaction.abort()
      open.work.end()
    }
    const work = gate.beginTarget({
      slot: decision.row.slot,
      writes: true,
      explicit: true,
      interrupt: gateway.interruptible(transaction, (because) => interrupt(because)),
    })
    const open: OpenWork = { work, interrupt, idle: null }
    gateway.open.add(open)
    const must = () => {
      if (interrupted !== null) throw interrupted
      if (!work.lease.holds()) throw new SwitchbackError('LEASE_OVER', { lease: work.lease.id })
    }
    try {
      if (kernel.chance(0.5)) {
        const began = kernel.now
        const { rows } = await transaction.execute(all(), [], ENV)
        must()
        this.#saw(key, ROW_NAMES, rows, began)
      }
      await kernel.sleep(host, kernel.between(0, 40))
      must()
      const { rows } = await transaction.execute(actsPlan(key, part.acts, by), [], ENV)
      must()
      part.told = rows.map(([told]) => told!)
      await kernel.sleep(host, kernel.between(0, 20))
      must()
      committing = true
      await transaction.commit()
      if (!work.lease.holds()) throw ended(work.lease.id, true)
      this.#mustTakeWrites(key)
    } catch (error) {
      // As target-arm's commitTarget: once COMMIT is under way, its own outcome is the answer.
      throw committing ? error : (interrupted ?? error)
    } finally {
      transaction.abort()
      work.end()
      gateway.open.delete(open)
    }
  }

  async #openOnSource(
    gateway: Gateway,
    host: Host,
    connection: Connection,
    part: Part,
    by: number,
    isolation: Transaction['isolation'],
  ): Promise<void> {
    const { kernel, postgres } = this.#world
    const { key } = part
    const { gate } = gateway
    const work = gate.beginSource({ explicit: true, snapshot: isolation === 'repeatable read' })
    const slot = hashSlotOf(key)
    let interrupted: SwitchbackError | null = null
    let transaction: Transaction | null = null
    let atRisk = false
    const interrupt = (because: SwitchbackError) => {
      interrupted = because
      // What is open on PostgreSQL ends with its connection.
      connection.close()
    }
    const open: OpenWork = { work, interrupt, idle: null }
    gateway.open.add(open)
    const quiet = () => {
      open.idle = transaction === null ? null : { connection, transaction }
      gate.changed.notify()
    }
    const statement = async <T>(writes: boolean, run: () => Promise<T>): Promise<T> => {
      if (interrupted !== null) throw interrupted
      const error = gate.join(work, { touch: slot, writes })
      if (error !== null) throw error
      gate.touch(work, { touch: slot, writes })
      open.idle = null
      const value = await run()
      if (interrupted !== null) throw interrupted
      if (!work.lease.holds()) throw ended(work.lease.id, false)
      quiet()
      return value
    }
    try {
      await connection.call(async (backend) => {
        await postgres.step(backend)
        transaction = postgres.begin(backend, isolation)
      })
      quiet()
      if (kernel.chance(0.5)) {
        const began = kernel.now
        const rows = await statement(false, () => connection.call((backend) => postgres.read(backend, transaction, key, ROW_NAMES)))
        this.#saw(key, ROW_NAMES, rows, began)
      }
      await kernel.sleep(host, kernel.between(0, kernel.chance(0.1) ? 400 : 40))
      part.missed = 'before it'
      part.told = await statement(true, () => connection.call(() => postgres.update(transaction!, key, slot, part.acts, by)))
      await kernel.sleep(host, kernel.between(0, kernel.chance(0.1) ? 400 : 40))
      if (interrupted !== null) throw interrupted
      if (!work.lease.holds()) throw ended(work.lease.id, false)
      open.idle = null
      atRisk = true
      await connection.call(() => postgres.commit(transaction!))
      if (interrupted !== null || !work.lease.holds()) throw ended(work.lease.id, true)
    } catch (error) {
      if (interrupted !== null) throw atRisk ? ended(work.lease.id, true) : new ConnectionEnded(interrupted)
      // Nothing was committed: the connection is lost before COMMIT was sent.
      if (error instanceof ConnectionLost && !atRisk) throw new ConnectionEnded(new SwitchbackError('GATEWAY_CLOSING'))
      throw error
    } finally {
      const left = transaction as Transaction | null
      if (left !== null && !left.ended && !connection.lost && !atRisk) await this.#rollback(connection, left)
      work.end()
      gateway.open.delete(open)
    }
  }

  async #rollback(connection: Connection, transaction: Transaction): Promise<void> {
    const { postgres } = this.#world
    await connection.call(async () => postgres.rollback(transaction)).catch(() => connection.close())
  }

  async #read(gateway: Gateway, connection: Connection, key: string, pots: readonly string[]): Promise<readonly Row[] | null> {
    const { gate } = gateway
    const facts = { touch: hashSlotOf(key), writes: false }
    const plan = pots.length === 1 ? one(pots[0]!) : all()
    try {
      for (;;) {
        const decision = await gate.admit(facts, STATEMENT_BYTES, this.#world.never)
        if (decision.kind === 'refuse') return null
        if (decision.kind === 'source') break
        const result = await this.#onTarget(gateway, key, plan, false)
        if (result !== null) return result.rows
      }
      const work = gate.beginSource({ explicit: false })
      gate.touch(work, facts)
      try {
        const rows = await connection.call((backend) => this.#world.postgres.read(backend, null, key, pots))
        return work.lease.holds() ? rows : null
      } finally {
        work.end()
      }
    } catch (error) {
      if (error instanceof SwitchbackError) return null
      throw error
    }
  }

  async #readAll(gateway: Gateway, connection: Connection, key: string): Promise<void> {
    const began = this.#world.kernel.now
    const rows = await this.#read(gateway, connection, key, ROW_NAMES)
    if (rows !== null) this.#saw(key, ROW_NAMES, rows, began)
  }

  /** What was asked for at once. */
  #saw(key: string, pots: readonly string[], rows: readonly Row[], began: number): Read | null {
    const { kernel, log } = this.#world
    log.read(key, pots, rows, began, kernel.now)
    if (pots.length === 1) return rows.length === 0 ? null : this.#history.read(key, rows[0]!, began, kernel.now)
    this.#history.snapshot(key, rows, began, kernel.now)
    return null
  }

  /** One row, then another: never x new and y old (faults.md 57). */
  async #readTwo(gateway: Gateway, connection: Connection, key: string): Promise<void> {
    const { kernel } = this.#world
    const [p, q] = kernel.oneOf([
      ['x', 'y'],
      ['z', 'y'],
      [NOTE, 'y'],
    ] as const)
    const began = kernel.now
    const first = await this.#read(gateway, connection, key, [p])
    if (first === null) return
    const one = this.#saw(key, [p], first, began)
    const then = kernel.now
    const second = await this.#read(gateway, connection, key, [q])
    if (second === null) return
    const other = this.#saw(key, [q], second, then)
    if (one !== null && other !== null) this.#history.pair(one, other)
  }
}

/** INV-9: a write may have taken effect. */
function ended(lease: string, written: boolean): SwitchbackError {
  return new SwitchbackError(written ? 'OUTCOME_UNKNOWN' : 'LEASE_OVER', { lease, reason: 'the lease of the gateway ended' })
}
