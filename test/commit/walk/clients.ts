// Promises: clients of the gateways: transactions of one statement and of several, reads of one row and of many, each told to the history
// as its client saw it.
import { hasCode, SwitchbackError } from '../../../src/model/errors.ts'
import type { TargetTransaction } from '../../../src/model/executor.ts'
import { add, all, ENV, one } from '../fake-plans.ts'
import type { History } from '../history.ts'
import { type Host, newHost } from '../host-time.ts'
import type { Gateway, Gateways, Serving } from './gateways.ts'
import type { Source } from './source.ts'
import { END_MS, type World } from './world.ts'

export class Clients {
  readonly #world: World
  readonly #gateways: Gateways
  readonly #source: Source

  constructor({ world, gateways, source }: { world: World; gateways: Gateways; source: Source }) {
    this.#world = world
    this.#gateways = gateways
    this.#source = source
  }

  async client(gateway: Gateway, host: Host): Promise<void> {
    const { random } = this.#world
    for (;;) {
      await this.#world.sleep(host, random.next() * 30)
      if (this.#world.time.now > END_MS) return
      const serving = this.#gateways.serving(gateway)
      const key = random.next() < 0.6 ? 'A' : 'B'
      const kind = random.next()
      if (serving === null) continue
      if (serving.view.owner === 'source') await this.#source.client(gateway.lease!, host, key)
      else if (kind < 0.2) await this.#explicit(gateway, host, serving, key)
      else if (kind < 0.5) await this.#readAll(gateway, serving, key)
      else await this.#autocommit(gateway, serving, key)
    }
  }

  /** One row, then another, by any two gateways: never x new and y old. A client whose gateway dies asks no more; so there are two kinds. */
  async pairs(): Promise<void> {
    const { random, time } = this.#world
    const never = newHost()
    for (;;) {
      await this.#world.sleep(never, 2 + random.next() * 10)
      if (time.now > END_MS) return
      const key = random.next() < 0.6 ? 'A' : 'B'
      const [p, q] = random.next() < 0.5 ? (['x', 'y'] as const) : (['z', 'y'] as const)
      const bounded = <T>(work: Promise<T | null>) => Promise.race([work, this.#world.sleep(never, 400).then(() => null)])
      const first = await bounded(this.#readOne(this.#gateways.all[random.int(3)]!, key, p))
      if (first === null) continue
      const second = await bounded(this.#readOne(this.#gateways.all[random.int(3)]!, key, q))
      if (second !== null) this.#world.history.pair(first, second)
    }
  }

  async #autocommit(gateway: Gateway, { lease, view }: Serving, key: string): Promise<void> {
    const amounts = this.#world.amounts()
    const txn = this.#world.history.begin(key, Object.keys(amounts), this.#world.time.now)
    const work = gateway.executor.autocommit(lease, this.#gateways.address(view, key), add(key, amounts, txn.id), [], ENV)
    await this.#answered(txn, work)
  }

  async #answered(txn: ReturnType<History['begin']>, work: Promise<unknown>): Promise<boolean> {
    try {
      await work
      this.#world.history.end(txn, 'acked', this.#world.time.now)
      return true
    } catch (error) {
      if (!(error instanceof SwitchbackError)) this.#world.history.bad.push(`a bug: ${error instanceof Error ? error.stack : error}`)
      this.#world.history.end(txn, hasCode(error, 'OUTCOME_UNKNOWN') ? 'unknown' : 'refused', this.#world.time.now)
      return false
    }
  }

  async #explicit(gateway: Gateway, host: Host, { lease, view }: Serving, key: string): Promise<void> {
    const { random, time } = this.#world
    const repeatable = random.next() < 0.5
    const amounts = this.#world.amounts()
    const txn = this.#world.history.begin(key, Object.keys(amounts), time.now)
    const work = async () => {
      const tx = gateway.executor.begin(lease, this.#gateways.address(view, key), {
        isolation: repeatable ? 'repeatable read' : 'read committed',
      })
      gateway.open.add(tx)
      try {
        const first = random.next() < 0.6 ? await this.#readIn(tx, txn.id) : null
        if (random.next() < 0.3) await tx.execute(one('x', { locks: true }), [], ENV)
        await this.#world.sleep(host, random.next() * 25)
        if (repeatable && first !== null) {
          const again = await this.#readIn(tx, txn.id)
          if (JSON.stringify(again) !== JSON.stringify(first))
            this.#world.history.bad.push(`a repeatable read changed: ${JSON.stringify([first, again])}`)
        }
        await tx.execute(add(key, amounts, txn.id), [], ENV)
        if (random.next() < 0.3) await tx.execute(add(key, { [Object.keys(amounts)[0]!]: 0 }, txn.id), [], ENV)
        if (random.next() < 0.15) throw new SwitchbackError('CONFLICT', { key }) // the client aborts
        await tx.commit()
      } finally {
        tx.abort()
        gateway.open.delete(tx)
      }
    }
    await this.#answered(txn, work())
  }

  async #readIn(tx: TargetTransaction, id: number): Promise<unknown> {
    const began = this.#world.time.now
    const { rows } = await tx.execute(all(), [], ENV)
    if (rows.every((row) => row[3] !== String(id))) this.#world.history.snapshot(tx.address.key, rows, began, this.#world.time.now)
    return rows
  }

  async #readAll(gateway: Gateway, { lease, view }: Serving, key: string): Promise<void> {
    const began = this.#world.time.now
    const result = await this.#quietly(gateway.executor.autocommit(lease, this.#gateways.address(view, key), all(), [], ENV))
    if (result !== null) this.#world.history.snapshot(key, result.rows, began, this.#world.time.now)
  }

  async #readOne(gateway: Gateway, key: string, pot: string) {
    const serving = gateway.host.dead ? null : this.#gateways.serving(gateway)
    if (serving === null || serving.view.owner === 'source') return null
    const began = this.#world.time.now
    const result = await this.#quietly(
      gateway.executor.autocommit(serving.lease, this.#gateways.address(serving.view, key), one(pot), [], ENV),
    )
    return result === null ? null : this.#world.history.read(key, result.rows[0]!, began, this.#world.time.now)
  }

  async #quietly<T>(work: Promise<T>): Promise<T | null> {
    try {
      return await work
    } catch (error) {
      if (!(error instanceof SwitchbackError)) this.#world.history.bad.push(`a bug: ${error instanceof Error ? error.stack : error}`)
      return null
    }
  }
}
