// Promises: the source contract over PostgreSQL: publication, logical slot and exported snapshot, readers, the stream.
import type pg from 'pg'
import type { Clock } from '../lib/clock.ts'
import { SwitchbackError } from '../model/errors.ts'
import { parseLsn } from '../model/ids.ts'
import type { Mapping } from '../model/mapping.ts'
import type { SlotPoint, SlotState, Source } from '../model/source.ts'
import { connectSource } from './connect.ts'
import { ident, tableSql } from './ident.ts'
import { estimatedRows, keyRanges } from './key-ranges.ts'
import { openSnapshotReader } from './snapshot-reader.ts'
import { openStream } from './stream.ts'

export interface SourceOptions {
  readonly url: string
  readonly mapping: Mapping
  readonly migration: string
  readonly clock: Clock
  /** Of the stream's connection: a successor finds and ends it by this name. */
  readonly streamApplicationName?: string
}

export function createSource(options: SourceOptions): Source {
  const { url, mapping, migration } = options
  const name = `switchback_${migration}`
  const once = async <T>(work: (client: pg.Client) => Promise<T>): Promise<T> => {
    const client = await connectSource({ url, applicationName: 'switchback source' })
    try {
      return await work(client)
    } finally {
      await client.end().catch(() => undefined)
    }
  }
  return {
    async systemIdentifier() {
      // Not pg_control_checkpoint(): that tells the old timeline until the first checkpoint after a promotion (faults.md 15).
      const client = await connectSource({ url, applicationName: 'switchback source', replication: 'database' })
      try {
        const { rows } = await client.query<{ systemid: string; timeline: string }>('IDENTIFY_SYSTEM')
        return { systemIdentifier: rows[0]!.systemid, timeline: Number(rows[0]!.timeline) }
      } finally {
        await client.end().catch(() => undefined)
      }
    },
    async createSlot() {
      await once((client) => publish(client, name, mapping))
      return createSlot(url, name)
    },
    slotState: () => once((client) => slotState(client, name)),
    dropSlot: () => once((client) => dropReplication(client, name)),
    stream: () =>
      openStream({
        url,
        slot: name,
        publication: name,
        mapping,
        clock: options.clock,
        applicationName: options.streamApplicationName ?? 'switchback stream',
      }),
    snapshotReader: (snapshot) => openSnapshotReader({ url, mapping, snapshot, clock: options.clock }),
    keyRanges: (table, ranges) => once((client) => keyRanges(client, table, ranges)),
    estimatedRows: (table) => once((client) => estimatedRows(client, table)),
    async currentWalLsn() {
      return once(async (client) => {
        const { rows } = await client.query<{ lsn: string }>('select pg_current_wal_insert_lsn() as lsn')
        return parseLsn(rows[0]!.lsn)
      })
    },
  }
}

async function publish(client: pg.Client, name: string, mapping: Mapping): Promise<void> {
  await client.query(`drop publication if exists ${ident(name)}`)
  // Before 18 there is no such option, and preflight refuses tables with generated columns.
  const generated = mapping.tables.some((table) => table.columns.some((column) => column.generatedExpr !== null))
  await client.query(
    `create publication ${ident(name)} for table ${mapping.tables.map(tableSql).join(', ')}
       with (publish_via_partition_root = true${generated ? ', publish_generated_columns = stored' : ''})`,
  )
}

/** The exported snapshot lives as long as this replication connection is idle: it is kept until `release`. */
async function createSlot(url: string, name: string): Promise<SlotPoint & { release(): Promise<void> }> {
  const client = await connectSource({ url, applicationName: 'switchback snapshot', replication: 'database' })
  try {
    const { rows } = await client.query<{ consistent_point: string; snapshot_name: string }>(
      `CREATE_REPLICATION_SLOT ${ident(name)} LOGICAL pgoutput (SNAPSHOT 'export')`,
    )
    return {
      consistentPoint: parseLsn(rows[0]!.consistent_point),
      snapshot: rows[0]!.snapshot_name,
      async release() {
        await client.end().catch(() => undefined)
      },
    }
  } catch (error) {
    await client.end().catch(() => undefined)
    throw new SwitchbackError('SLOT_NOT_CREATED', { slot: name, reason: error instanceof Error ? error.message : String(error) }, error)
  }
}

async function slotState(client: pg.ClientBase, name: string): Promise<SlotState | null> {
  const { rows } = await client.query<{ confirmed: string | null; active: string; status: string | null; safe: string | null }>(
    `select confirmed_flush_lsn as confirmed, active::text as active, wal_status as status, safe_wal_size as safe
       from pg_replication_slots where slot_name = $1`,
    [name],
  )
  const row = rows[0]
  if (row === undefined || row.confirmed === null) return null
  return {
    confirmedFlushLsn: parseLsn(row.confirmed),
    active: row.active === 'true',
    walStatus: row.status ?? 'unknown',
    safeWalSizeBytes: row.safe === null ? null : Number(row.safe),
  }
}

/** Slot and publication of a move; whoever streams from it is ended first. Idempotent. */
async function dropReplication(client: pg.ClientBase, name: string): Promise<void> {
  await client.query('select pg_terminate_backend(active_pid) from pg_replication_slots where slot_name = $1 and active', [name])
  for (let tries = 0; ; tries++) {
    try {
      await client.query('select pg_drop_replication_slot(slot_name) from pg_replication_slots where slot_name = $1', [name])
      break
    } catch (error) {
      // object_in_use: the walsender that was told to end has not yet.
      if ((error as { code?: string }).code !== '55006' || tries >= DROP_TRIES_MAX) throw error
      await client.query('select pg_sleep(0.05)')
    }
  }
  await client.query(`drop publication if exists ${ident(name)}`)
}

const DROP_TRIES_MAX = 100
