// Promises: the service: sessions through gateways and one writer that goes to PostgreSQL past them, each transaction told to the history
// as its client heard of it.
import { hasCode, SwitchbackError } from '../../src/model/errors.ts'
import { hashSlotOf } from '../../src/model/key.ts'
import type { Row } from '../../src/model/row.ts'
import { add, all, ENV, one } from '../commit/fake-plans.ts'
import type { History, Txn } from '../commit/history.ts'
import type { Gateway, OpenWork } from './gateway.ts'
import type { Host } from './kernel.ts'
import { PgError, type Transaction } from './postgres-parts.ts'
import { Connection, ConnectionLost } from './sessions.ts'
import { KEYS, POT_NAMES, type World } from './world.ts'

const STATEMENT_BYTES = 100

export class Clients {
  readonly #world: World
  readonly #gateways: readonly Gateway[]
  readonly transactions: number

  constructor(world: World, gateways: readonly Gateway[], transactions: number) {
    this.#world = world
    this.#gateways = gateways
    this.transactions = transactions
  }

  get #history(): History {
    return this.#world.history
  }

  start(clients: number): void {
    for (let i = 0; i < clients; i++) this.#run(`client ${i}`, this.#gateways[i % this.#gateways.length]!)
    void this.#directly()
  }

  /** A client lives as long as its gateway's process: its session dies with it. Another one comes. */
  #run(name: string, gateway: Gateway): void {
    const { kernel } = this.#world
    const host = gateway.host
    const next = kernel.host(name)
    const watch = () => {
      if (host.dead) this.#run(name, gateway)
      else kernel.on(next, 40, watch)
    }
    kernel.on(next, 40, watch)
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
      if (kind > 0.55 && world.begun >= this.transactions) continue
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

  #begin(key: string, amounts: Readonly<Record<string, number>>): Txn {
    return this.#history.begin(key, Object.keys(amounts), this.#world.kernel.now)
  }

  #end(who: string, txn: Txn, error: unknown): void {
    const { kernel } = this.#world
    const unknown = error instanceof ConnectionLost || hasCode(error, 'OUTCOME_UNKNOWN')
    const state = error === null ? 'acked' : unknown ? 'unknown' : 'refused'
    if (error !== null && !(error instanceof SwitchbackError || error instanceof PgError || error instanceof ConnectionLost))
      kernel.violated('bug', String(error instanceof Error ? error.stack : error))
    this.#history.end(txn, state, kernel.now)
    kernel.told(who, () => `transaction ${txn.id} on ${txn.key} is ${state}${error === null ? '' : ` (${(error as Error).message})`}`)
  }

  /** One statement that is its own transaction. */
  async #alone(gateway: Gateway, connection: Connection, key: string): Promise<void> {
    const amounts = this.#world.amounts()
    const txn = this.#begin(key, amounts)
    const { gate } = gateway
    let failure: unknown = null
    try {
      for (;;) {
        const facts = { touch: hashSlotOf(key), writes: true }
        const decision = await gate.admit(facts, STATEMENT_BYTES, this.#world.never)
        if (decision.kind === 'refuse') throw decision.error
        if (decision.kind === 'source') await this.#onSource(gateway, connection, key, amounts, txn)
        else if (!(await this.#onTarget(gateway, key, add(key, amounts, txn.id), true))) continue
        break
      }
    } catch (error) {
      failure = error
    }
    this.#end(gateway.name, txn, failure)
    if (failure instanceof ConnectionLost) throw failure
  }

  /** As target-arm's runAlone. Null: it is routed again. */
  async #onTarget(gateway: Gateway, key: string, plan: ReturnType<typeof add>, writes: boolean): Promise<{ rows: readonly Row[] } | null> {
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
      return result
    } catch (error) {
      if (hasCode(error, 'AGGREGATE_MOVING')) return null
      throw error
    } finally {
      work.end()
    }
  }

  async #onSource(
    gateway: Gateway,
    connection: Connection,
    key: string,
    amounts: Readonly<Record<string, number>>,
    txn: Txn,
  ): Promise<void> {
    const { gate } = gateway
    const { postgres } = this.#world
    const work = gate.beginSource({ explicit: false })
    gate.touch(work, { touch: hashSlotOf(key), writes: true })
    try {
      await connection.call(async (backend) => {
        const transaction = postgres.begin(backend, 'read committed')
        await postgres.update(transaction, key, hashSlotOf(key), amounts, txn.id)
        await postgres.commit(transaction)
      })
      if (!work.lease.holds()) throw ended(work.lease.id, true)
    } finally {
      work.end()
    }
  }

  /** BEGIN; perhaps a read; the write; perhaps a pause; COMMIT. */
  async #explicit(gateway: Gateway, host: Host, connection: Connection, key: string): Promise<void> {
    const amounts = this.#world.amounts()
    const txn = this.#begin(key, amounts)
    const { gate } = gateway
    let failure: unknown = null
    try {
      const decision = await gate.admit({ touch: hashSlotOf(key), writes: true }, STATEMENT_BYTES, this.#world.never)
      if (decision.kind === 'refuse') throw decision.error
      const isolation = this.#world.kernel.chance(0.5) ? 'repeatable read' : 'read committed'
      if (decision.kind === 'target') await this.#openOnTarget(gateway, host, key, amounts, txn, isolation)
      else await this.#openOnSource(gateway, host, connection, key, amounts, txn, isolation)
    } catch (error) {
      failure = error
    }
    this.#end(gateway.name, txn, failure)
    if (failure instanceof ConnectionLost) throw failure
  }

  async #openOnTarget(
    gateway: Gateway,
    host: Host,
    key: string,
    amounts: Readonly<Record<string, number>>,
    txn: Txn,
    isolation: 'read committed' | 'repeatable read',
  ): Promise<void> {
    const { kernel } = this.#world
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
        await transaction.execute(all(), [], ENV)
        must()
      }
      await kernel.sleep(host, kernel.between(0, 40))
      must()
      await transaction.execute(add(key, amounts, txn.id), [], ENV)
      must()
      await kernel.sleep(host, kernel.between(0, 20))
      must()
      committing = true
      await transaction.commit()
      if (!work.lease.holds()) throw ended(work.lease.id, true)
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
    key: string,
    amounts: Readonly<Record<string, number>>,
    txn: Txn,
    isolation: Transaction['isolation'],
  ): Promise<void> {
    const { kernel, postgres } = this.#world
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
    const statement = async (writes: boolean, run: () => Promise<unknown>) => {
      if (interrupted !== null) throw interrupted
      const error = gate.join(work, { touch: slot, writes })
      if (error !== null) throw error
      gate.touch(work, { touch: slot, writes })
      open.idle = null
      await run()
      if (interrupted !== null) throw interrupted
      if (!work.lease.holds()) throw ended(work.lease.id, false)
      quiet()
    }
    try {
      await connection.call(async (backend) => {
        await postgres.step(backend)
        transaction = postgres.begin(backend, isolation)
      })
      quiet()
      if (kernel.chance(0.5))
        await statement(false, () => connection.call((backend) => postgres.read(backend, transaction, key, POT_NAMES)))
      await kernel.sleep(host, kernel.between(0, kernel.chance(0.1) ? 400 : 40))
      await statement(true, () => connection.call(() => postgres.update(transaction!, key, slot, amounts, txn.id)))
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
    const rows = await this.#read(gateway, connection, key, POT_NAMES)
    if (rows !== null) this.#history.snapshot(key, rows, began, this.#world.kernel.now)
  }

  /** One row, then another: never x new and y old (faults.md 57). */
  async #readTwo(gateway: Gateway, connection: Connection, key: string): Promise<void> {
    const { kernel } = this.#world
    const [p, q] = kernel.chance(0.5) ? (['x', 'y'] as const) : (['z', 'y'] as const)
    const began = kernel.now
    const first = await this.#read(gateway, connection, key, [p])
    if (first === null) return
    const then = kernel.now
    const one = this.#history.read(key, first[0]!, began, then)
    const second = await this.#read(gateway, connection, key, [q])
    if (second !== null) this.#history.pair(one, this.#history.read(key, second[0]!, then, kernel.now))
  }

  /** A job that does not know of the gateways, and at times keeps its transaction open for long. */
  async #directly(): Promise<void> {
    const { kernel, postgres } = this.#world
    const host = kernel.host('direct writer')
    let connection: Connection | null = null
    for (;;) {
      await kernel.sleep(host, kernel.between(30, 250))
      if (this.#world.over || this.#world.begun >= this.transactions) continue
      this.#world.begun++
      const key = kernel.oneOf(KEYS)
      const amounts = this.#world.amounts()
      let txn: Txn | null = null
      let committing = false
      let failure: unknown = null
      try {
        connection ??= await Connection.open(kernel, postgres, host, 'direct writer')
        txn = this.#begin(key, amounts)
        const isolation = kernel.chance(0.5) ? 'repeatable read' : 'read committed'
        const open = connection
        const transaction = await open.call(async (backend) => {
          const begun = postgres.begin(backend, isolation)
          await postgres.read(backend, begun, key, POT_NAMES)
          return begun
        })
        await kernel.sleep(host, kernel.between(0, kernel.chance(0.2) ? 600 : 30))
        await open.call(() => postgres.update(transaction, key, hashSlotOf(key), amounts, txn!.id))
        await kernel.sleep(host, kernel.between(0, kernel.chance(0.1) ? 600 : 30))
        committing = true
        await open.call(() => postgres.commit(transaction))
      } catch (error) {
        failure = error instanceof ConnectionLost && !committing ? new ConnectionEnded(new SwitchbackError('GATEWAY_CLOSING')) : error
        connection?.close()
        connection = null
      }
      if (txn !== null) this.#end('direct writer', txn, failure)
    }
  }
}

/** The session ended before COMMIT was sent: nothing takes effect any more. */
class ConnectionEnded extends SwitchbackError {
  constructor(because: SwitchbackError) {
    super('GATEWAY_CLOSING', {}, because)
  }
}

/** INV-9: a write may have taken effect. */
function ended(lease: string, written: boolean): SwitchbackError {
  return new SwitchbackError(written ? 'OUTCOME_UNKNOWN' : 'LEASE_OVER', { lease, reason: 'the lease of the gateway ended' })
}
