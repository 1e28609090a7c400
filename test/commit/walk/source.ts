// Promises: PostgreSQL's side: the rows there, the clients that its owner lets write them, and the forward sync, whose changes may come
// twice, the second time long after.
import { POTS } from '../fake-plans.ts'
import type { Host } from '../host-time.ts'
import { KEYS, type Lease, POT_NAMES, START, type World } from './world.ts'

interface Change {
  readonly pot: string
  readonly amount: number
  readonly by: number
}

export class Source {
  readonly rows = new Map<string, { amount: number; by: number }>()
  /** Changes on their way to the target for the first time. */
  forwarding = 0
  /** Counts commits of the present tenure. */
  lsn = 0
  readonly #world: World

  constructor(world: World) {
    this.#world = world
    for (const key of KEYS) for (const pot of POT_NAMES) this.rows.set(key + pot, { amount: START, by: 0 })
  }

  async client(lease: Lease, host: Host, key: string): Promise<void> {
    const amounts = this.#world.amounts()
    const txn = this.#world.history.begin(key, Object.keys(amounts), this.#world.time.now)
    const lost = !this.#world.calm && this.#world.random.next() < 0.02
    const reply = await new Promise<'acked' | 'refused' | 'unknown'>((resolve) => {
      this.#world.time.on(host, 80, () => resolve('unknown'))
      this.#world.time.after(this.#world.delay(), () => {
        const { owner, phase, tenure, base } = this.#world.ownership
        const outcome = owner === 'source' && phase === 'steady' ? 'acked' : 'refused'
        if (outcome === 'acked') {
          const changes = Object.entries(amounts).map(([pot, by]) => ({ pot, amount: this.rows.get(key + pot)!.amount + by, by: txn.id }))
          this.write(key, changes)
          const stamp = base + BigInt(++this.lsn)
          for (const change of changes) this.#forward(key, change, stamp, tenure)
        }
        if (!lost) this.#world.time.on(host, this.#world.delay(), () => resolve(lease.until > this.#world.time.now ? outcome : 'unknown'))
      })
    })
    this.#world.history.end(txn, reply, this.#world.time.now)
  }

  write(key: string, changes: readonly Change[]): void {
    for (const { pot, amount, by } of changes) this.rows.set(key + pot, { amount, by })
    this.#world.history.effect(key, changes)
  }

  #forward(key: string, { pot, amount, by }: Change, stamp: bigint, tenure: number): void {
    const put = () =>
      this.#world.store.put({ table: POTS, key, clustering: [pot], values: [key, pot, String(amount), String(by)], stamp, mark: false })
    this.forwarding++
    this.#world.time.after(this.#world.delay(), () => {
      put()
      this.forwarding--
    })
    if (this.#world.random.next() < 0.1 && tenure > 0) this.#world.time.after(100 + this.#world.random.next() * 1_000, put)
  }

  compareWithTarget(): void {
    for (const key of KEYS) {
      let sum = 0
      for (const pot of POT_NAMES) {
        const source = this.rows.get(key + pot)!
        const target = this.#world.store.row({ table: POTS, key, clustering: [pot] })!.values!
        if (target[2] !== String(source.amount) || target[3] !== String(source.by)) {
          this.#world.history.bad.push(
            `parity of ${key}${pot}: PostgreSQL has ${source.amount} by ${source.by}, the target ${target[2]} by ${target[3]}`,
          )
        }
        sum += source.amount
      }
      if (sum !== START * POT_NAMES.length) this.#world.history.bad.push(`the sum of ${key} is ${sum}`)
    }
  }
}
