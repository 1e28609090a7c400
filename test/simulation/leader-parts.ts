// Promises: what a leader holds on the model of PostgreSQL beside the control schema: the applier that writes target transactions back,
// and the stream of the logical slot.
import type { ReverseApplier, ReverseOutcome, ReverseTransaction } from '../../src/model/control.ts'
import { SwitchbackError } from '../../src/model/errors.ts'
import type { Lsn } from '../../src/model/ids.ts'
import type { ChangeStream } from '../../src/model/source.ts'
import type { OutboxPosition } from '../../src/sync/reverse-parts.ts'
import type { Step } from './coverage.ts'
import type { Host, Kernel } from './kernel.ts'
import type { Postgres } from './postgres.ts'
import { type Backend, type Due, PgError, type WrittenRow } from './postgres-parts.ts'
import { Connection, ConnectionLost, ControlSession } from './sessions.ts'
import type { World } from './world.ts'

export const ORIGIN = 'switchback_sim'

export function reverseApplier(world: World, host: Host, token: number): ReverseApplier & { close(): void } {
  const { kernel, postgres, coverage } = world
  const session = new ControlSession(kernel, postgres, host, `leader ${token} reverse`, { mends: true })
  const query = <T>(work: (backend: Backend) => Promise<T>) =>
    session.query(work).catch((error: unknown) => {
      if (error instanceof PgError && error.code === 'TOKEN_STALE') throw new SwitchbackError('TOKEN_STALE', { token }, error)
      throw error
    })
  const during = <T>(step: Step, work: (backend: Backend) => Promise<T>) => coverage.during(step, host, query(work))
  return {
    apply: (batch) =>
      during('sync: apply', async (backend) => {
        let outcomes: ReverseOutcome[] = []
        await postgres.applyRows(backend, token, ORIGIN, async () => {
          await postgres.step(backend)
          outcomes = standings(postgres, batch)
          await postgres.step(backend)
          return dueOf(kernel, postgres, batch, outcomes)
        })
        return outcomes
      }),
    applied: (keys) =>
      query(async (backend) => {
        await postgres.step(backend)
        return keys.flatMap(({ key, tenure }) => {
          const row = postgres.applied.get(key)
          return row?.tenure === tenure ? [{ key, tenure, version: row.version, txnId: row.txnId }] : []
        })
      }),
    positions: () =>
      query(async (backend) => {
        await postgres.step(backend)
        return [...postgres.positions.values()]
      }),
    savePositions: (positions) =>
      during('sync: savePositions', async (backend) => {
        await postgres.step(backend)
        if (token !== postgres.token) throw new PgError('TOKEN_STALE', '')
        const lsn = postgres.insertLsn
        for (const position of positions) {
          const id = `${position.group}/${position.lease}`
          const before = postgres.positions.get(id)
          mustBeRead(world, position)
          postgres.positions.set(id, {
            ...position,
            sequence: Math.max(before?.sequence ?? 0, position.sequence),
            final: (before?.final ?? false) || position.final,
            saves: [...(before?.saves ?? []), { sequence: position.sequence, lsn }],
          })
        }
      }),
    close: () => session.close(),
  }
}

/** Reverse sync: an outbox is read to its end once its lease is over, so that what was there by then is not passed over. */
function mustBeRead({ kernel, postgres, store }: World, { group, lease, sequence, final }: OutboxPosition): void {
  const overAt = postgres.overAt.get(lease)
  if (!final) return
  const unread = overAt === undefined ? 'it lives' : store.thereBefore({ group, lease }, sequence, overAt).join()
  if (unread !== '') kernel.violated('INV-2', `outbox ${group}/${lease} is called final at ${sequence}: ${unread}`)
}

/** In order: a transaction counts for the ones after it in the same batch. */
function standings(postgres: Postgres, batch: readonly ReverseTransaction[]): ReverseOutcome[] {
  const reached = new Map<string, number>()
  return batch.map(({ key, slot, tenure, version }) => {
    const row = postgres.owned(slot)
    if (row.owner !== 'target' || row.tenure !== tenure) return 'old'
    const applied = postgres.applied.get(key)
    const known = reached.get(key) ?? (applied?.tenure === tenure ? applied.version : 0)
    if (version <= known) return 'double'
    if (version > known + 1) return 'wait'
    reached.set(key, version)
    return 'applied'
  })
}

function dueOf(kernel: Kernel, postgres: Postgres, batch: readonly ReverseTransaction[], outcomes: readonly ReverseOutcome[]): Due | null {
  const due = batch.filter((_, i) => outcomes[i] === 'applied')
  if (due.length === 0) return null
  const effects = due.map(({ key, changes }) => {
    // Of a row that is gone the others of its transaction say who took it away.
    const by = Number(changes.find(({ values }) => values !== null)!.values![3])
    return changes.map(({ clustering, values }): WrittenRow => ({ key, pot: clustering[0]!, values: values as string[] | null, by }))
  })
  const rows = new Map<string, WrittenRow>()
  for (const row of effects.flat()) rows.set(row.key + row.pot, row)
  return {
    rows: [...rows.values()],
    effects,
    visible: () => {
      for (const { key, slot, tenure, version, txnId } of due) {
        const before = postgres.applied.get(key)
        if (version !== (before?.tenure === tenure ? before.version : 0) + 1)
          kernel.violated('INV-6', `${key} goes from version ${before?.version} to ${version} in tenure ${tenure}`)
        const row = postgres.owned(slot)
        if (row.owner !== 'target' || row.tenure !== tenure)
          kernel.violated(
            'INV-1',
            `a target transaction of ${key} in tenure ${tenure} is applied in tenure ${row.tenure} of the ${row.owner}`,
          )
        postgres.applied.set(key, { slot, tenure, version, txnId })
        kernel.told('applier', () => `${key} version ${version} of tenure ${tenure} (${txnId})`)
      }
    },
  }
}

/** @throws ConnectionLost; SLOT_IN_USE while another one reads. */
export async function openStream(
  kernel: Kernel,
  postgres: Postgres,
  host: Host,
  token: number,
  onAcknowledged: (from: Lsn, to: Lsn) => void,
): Promise<ChangeStream> {
  const connection = await Connection.open(kernel, postgres, host, `leader ${token} stream`)
  const { backend } = connection
  if (postgres.streaming !== null) {
    connection.close()
    throw new SwitchbackError('SLOT_IN_USE', { slot: 'sim', pid: 0 })
  }
  postgres.streaming = backend
  let server = postgres.confirmed
  return {
    async *transactions(signal) {
      let next = postgres.wal.findIndex(({ endLsn }) => endLsn > postgres.confirmed)
      if (next < 0) next = postgres.wal.length
      while (!signal.aborted) {
        if (backend.gone) throw new ConnectionLost('the stream broke off')
        const transaction = postgres.wal[next]
        if (transaction === undefined) {
          await postgres.walGrew.next(signal)
          continue
        }
        const delayMs = kernel.delay('postgres', host.name)
        if (delayMs === Number.POSITIVE_INFINITY) {
          connection.close()
          throw new ConnectionLost('the stream broke off')
        }
        await kernel.sleep(host, delayMs)
        if (signal.aborted) return
        next++
        server = transaction.endLsn
        yield transaction
      }
    },
    acknowledge(lsn) {
      const delayMs = kernel.delay(host.name, 'postgres')
      if (delayMs === Number.POSITIVE_INFINITY) return
      kernel.time.after(delayMs, () => {
        if (backend.gone || lsn <= postgres.confirmed) return
        onAcknowledged(postgres.confirmed, lsn)
        postgres.confirmed = lsn
      })
    },
    serverLsn: () => server,
    async close() {
      connection.close()
    },
  }
}
