// Promises: what the demo sees of the move from outside, in the control schema's own tables: flips and their times, how many
// transactions the target has sent back, what the judge has said; and the kills that it does in the middle of them.
import pg from 'pg'
import type { Supervised } from './processes.ts'
import type { FlipWindow, Kill } from './report.ts'

export interface RecordedVerdict {
  readonly id: string
  readonly detector: string
  readonly statement: string | null
  /** Wall clock, ms: when it was recorded, and when the last of the traffic was off the target; null: not yet. */
  readonly atMs: number
  readonly offMs: number | null
}

export class Watch {
  readonly #client: pg.Client

  private constructor(client: pg.Client) {
    this.#client = client
  }

  static async open(url: string): Promise<Watch> {
    const client = new pg.Client({ connectionString: url, query_timeout: 30_000, application_name: 'ledger demo' })
    client.on('error', () => undefined)
    await client.connect()
    return new Watch(client)
  }

  /** The state of the flip that is under way; null: none. */
  async openFlip(): Promise<{ readonly state: string; readonly to: string } | null> {
    const { rows } = await this.#client.query<{ state: string; to: string }>(
      `select state, owner_to as "to" from switchback.flip where state not in ('cancelled', 'routed') order by number desc limit 1`,
    )
    return rows[0] ?? null
  }

  async flips(): Promise<FlipWindow[]> {
    const { rows } = await this.#client.query<{ to: string; slots: number[]; start_ms: string; steps: { ms: number }[] }>(
      `select owner_to as "to", slots, (extract(epoch from started_at) * 1000)::text as start_ms, steps
         from switchback.flip where state = 'routed' order by number`,
    )
    return rows.map((row) => {
      const startMs = Number(row.start_ms)
      return {
        from: row.to === 'target' ? 'source' : 'target',
        to: row.to,
        slots: row.slots,
        startMs,
        endMs: startMs + row.steps.filter((_, i) => i > 1).reduce((sum, step) => sum + step.ms, 0),
        rollback: row.to === 'source',
      }
    })
  }

  /** The judge's newest verdict that turned the traffic back, as the controller has recorded it. */
  async newestRollback(): Promise<RecordedVerdict | null> {
    const { rows } = await this.#client.query<{ id: string; detector: string; statement: string | null; at: string; off: string | null }>(
      `select id::text as id, detector, verdict -> 'evidence' ->> 'statement' as statement,
              (extract(epoch from at) * 1000)::text as at, (extract(epoch from off_at) * 1000)::text as off
         from switchback.verdict where act = 'rollback' order by verdict.id desc limit 1`,
    )
    const [row] = rows
    if (row === undefined) return null
    return {
      id: row.id,
      detector: row.detector,
      statement: row.statement,
      atMs: Number(row.at),
      offMs: row.off === null ? null : Number(row.off),
    }
  }

  async rollbacks(): Promise<number> {
    return this.#number(`select count(*)::text as n from switchback.verdict where act = 'rollback'`)
  }

  async debtSlots(): Promise<number> {
    return this.#number('select count(*)::text as n from switchback.debt')
  }

  async slotsOnTarget(): Promise<ReadonlySet<number>> {
    const { rows } = await this.#client.query<{ slot: number }>(`select slot::int as slot from switchback.ownership where owner = 'target'`)
    return new Set(rows.map((row) => row.slot))
  }

  /** Of the target, and held back until it answers. */
  async parkedSlots(): Promise<readonly number[]> {
    const { rows } = await this.#client.query<{ slot: number }>(
      `select slot::int as slot from switchback.ownership where owner = 'target' and phase <> 'steady' order by slot`,
    )
    return rows.map((row) => row.slot)
  }

  /** The order to go back has brought home what can go without the target, and waits for it. */
  async onlyParkedLeft(): Promise<boolean> {
    const waiting = await this.#number(
      `select count(*)::text as n from switchback.job where state = 'running' and progress ->> 'step' like 'the target does not answer%'`,
    )
    const served = await this.#number(`select count(*)::text as n from switchback.ownership where owner = 'target' and phase = 'steady'`)
    return waiting > 0 && served === 0
  }

  /** Transactions committed on the target that PostgreSQL holds, in all tenures. */
  async appliedTransactions(): Promise<number> {
    return this.#number('select transactions::text as n from switchback.applied_total')
  }

  async #number(sql: string): Promise<number> {
    const { rows } = await this.#client.query<{ n: string }>(sql)
    return Number(rows[0]!.n)
  }

  async close(): Promise<void> {
    await this.#client.end()
  }
}

export interface Victim {
  readonly process: Supervised
  /** Of a gateway: where clients connect. */
  readonly port: number | null
}

export interface KillPlan {
  readonly random: () => number
  readonly victims: readonly Victim[]
  readonly say: (text: string) => void
}

/** Kills one of the victims in the middle of a flip to `owner`, as soon as one is seen. Null: the signal came before. */
export async function killInsideFlip(watch: Watch, owner: string, plan: KillPlan, signal: AbortSignal): Promise<Kill | null> {
  while (!signal.aborted) {
    const flip = await watch.openFlip()
    if (flip !== null && flip.to === owner) return killOne(plan, `flip to the ${owner}, ${flip.state}`)
  }
  return null
}

/** Resolves when the victim is gone. Null: it was not running. */
export async function killOne(plan: KillPlan, step: string): Promise<Kill | null> {
  const { process, port } = plan.victims[Math.floor(plan.random() * plan.victims.length)]!
  const atMs = Date.now()
  const gone = process.kill()
  if (gone === null) return null
  plan.say(`kill -9 of ${process.name} (${step}); its supervisor starts it again.`)
  return { process: process.name, step, port, atMs, goneMs: await gone }
}
