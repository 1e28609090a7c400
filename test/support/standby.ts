// Promises: a real streaming standby of a running server, that a test can stop, and promote in the primary's place.
import { chmodSync, chownSync, mkdirSync, mkdtempSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { copyFile, mkdir, readdir } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import pg from 'pg'
import { type EmbeddedPostgres, startEmbeddedPostgres } from '../../src/app/embedded/postgres.ts'
import { eventually } from './eventually.ts'

export interface Standby extends AsyncDisposable {
  /** As kill -9. */
  kill(): Promise<void>
  start(): Promise<void>
  /** Kills the primary, then this one goes on at its port as the primary, on a new timeline. */
  takeOver(): Promise<void>
  /** After takeOver: it ends, and the primary of before is there again as it was. */
  giveBack(): Promise<void>
}

/** Files that are the primary's own, or come through the stream. */
const NOT_COPIED = /^(postmaster\.(pid|opts)|pg_wal\/.+|pg_replslot\/.+|pg_dynshmem\/.+|pg_stat_tmp\/.+)$/

/** Streams under the name when this resolves. */
export async function startStandby(primary: EmbeddedPostgres, name: string): Promise<Standby> {
  const folder = mkdtempSync(join(tmpdir(), 'switchback-standby-'))
  await copyOf(primary, folder, name)
  let server: EmbeddedPostgres | null = await startEmbeddedPostgres({ folder })
  const streams = () => eventually(() => isStreaming(primary, name), `${name} streams`)
  await streams()
  return {
    async kill() {
      await server!.kill()
    },
    async start() {
      await server!.start()
      await streams()
    },
    async takeOver() {
      await primary.kill()
      await server?.stop()
      server = await startEmbeddedPostgres({ folder, port: primary.port })
      await once(server, 'select pg_promote(true)')
    },
    async giveBack() {
      await server!.kill()
      server = null
      await primary.start()
    },
    async [Symbol.asyncDispose]() {
      await server?.stop()
      rmSync(folder, { recursive: true, force: true })
    },
  }
}

/** A base backup by hand: the embedded binaries have no pg_basebackup. */
async function copyOf(primary: EmbeddedPostgres, folder: string, name: string): Promise<void> {
  const client = new pg.Client({ connectionString: primary.url(), query_timeout: 60_000 })
  await client.connect()
  try {
    await client.query(`select pg_backup_start('standby', true)`)
    await copyFiles(primary.folder, folder, '')
    const { rows } = await client.query<{ labelfile: string }>('select labelfile from pg_backup_stop(false)')
    writeFileSync(join(folder, 'backup_label'), rows[0]!.labelfile)
  } finally {
    await client.end()
  }
  mkdirSync(join(folder, 'pg_wal', 'archive_status'), { recursive: true })
  const url = new URL(primary.url())
  const conninfo = `host=127.0.0.1 port=${primary.port} user=postgres password=${url.password} application_name=${name}`
  writeFileSync(join(folder, 'postgresql.auto.conf'), `primary_conninfo = '${conninfo}'\n`)
  writeFileSync(join(folder, 'standby.signal'), '')
  const { uid, gid } = statSync(primary.folder)
  for (const path of ['', ...readdirSync(folder, { recursive: true, encoding: 'utf8' })]) chownSync(join(folder, path), uid, gid)
  chmodSync(folder, 0o700)
}

/** What goes away meanwhile is of no use to the copy, which follows the write-ahead log from the backup's start on. */
async function copyFiles(from: string, to: string, below: string): Promise<void> {
  const entries = await readdir(join(from, below), { withFileTypes: true }).catch(unlessGone)
  for (const entry of entries ?? []) {
    const path = join(below, entry.name)
    if (NOT_COPIED.test(path)) continue
    if (entry.isDirectory()) {
      await mkdir(join(to, path), { recursive: true })
      await copyFiles(from, to, path)
    } else if (entry.isFile()) await copyFile(join(from, path), join(to, path)).catch(unlessGone)
  }
}

function unlessGone(error: unknown): undefined {
  if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error
}

async function isStreaming(primary: EmbeddedPostgres, name: string): Promise<boolean> {
  const rows = await once(primary, `select state from pg_stat_replication where application_name = '${name}'`)
  return rows[0]?.['state'] === 'streaming'
}

async function once(server: EmbeddedPostgres, sql: string): Promise<Record<string, unknown>[]> {
  const client = new pg.Client({ connectionString: server.url(), query_timeout: 60_000 })
  client.on('error', () => undefined)
  await client.connect()
  try {
    return (await client.query<Record<string, unknown>>(sql)).rows
  } finally {
    await client.end()
  }
}
