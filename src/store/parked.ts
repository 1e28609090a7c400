// Promises: how long flips held statements back, as the gateways told it (schema-parked.ts), put together over all of them.
import type { FlipParked } from '../model/control.ts'
import type { Session } from './session.ts'

/** By flip id; a flip of which no gateway has told anything is left out (INV-10: unknown is not zero). */
export async function readParked(session: Session, flips: readonly string[]): Promise<ReadonlyMap<string, FlipParked>> {
  const rows = await session.query(
    `select f.id, count(distinct p.lease) as gateways, sum(p.statements) as statements,
            max(p.p50_ms) as p50_ms, max(p.p99_ms) as p99_ms, max(p.max_ms) as max_ms
       from switchback.flip f
       cross join lateral (select coalesce(max(x.epoch), 0) as epoch from switchback.flip x where x.epoch < f.epoch) as before
       join switchback.parked p on p.epoch > before.epoch and p.epoch <= f.epoch
      where f.id = any ($1)
      group by f.id`,
    [[...flips]],
  )
  return new Map(
    rows.map((row) => [
      row['id']!,
      {
        gateways: Number(row['gateways']),
        statements: Number(row['statements']),
        p50Ms: Number(row['p50_ms']),
        p99Ms: Number(row['p99_ms']),
        maxMs: Number(row['max_ms']),
      },
    ]),
  )
}
