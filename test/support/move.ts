// Promises: a whole move in one test process, of the real parts: embedded PostgreSQL, the control schema, guard and controller with
// both syncs, gateways with leases, and the in-memory target behind its own protocol. A test fails when something deprecated was used
// meanwhile, as a second statement on a connection that still runs one.
import assert from 'node:assert/strict'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import pg from 'pg'
import { pino } from 'pino'
import { installMove } from '../../src/app/init.ts'
import { openSource, openWorkspaceTarget } from '../../src/app/open-parts.ts'
import { placeOrder } from '../../src/app/place-order.ts'
import { backfillNow } from '../../src/app/run-backfill.ts'
import { runController } from '../../src/app/run-controller.ts'
import { type RunningGateway, runGateway } from '../../src/app/run-gateway.ts'
import { openWorkspace, type Workspace } from '../../src/app/workspace.ts'
import type { Owner, SlotId } from '../../src/model/ids.ts'
import { canonicalKey, HASH_SLOTS, hashSlotOf } from '../../src/model/key.ts'
import type { Mapping } from '../../src/model/mapping.ts'
import type { MigrationConfig } from '../../src/model/migration.ts'
import type { FaultHook } from '../../src/targets/memory/faults.ts'
import { type MemoryServer, serveMemoryTarget } from '../../src/targets/memory/server.ts'
import { watchDeprecations } from './deprecations.ts'
import { type TestDatabase, testDatabase } from './postgres.ts'

export interface MoveOptions {
  /** Schema and rows. */
  readonly sql: string
  readonly tables: MigrationConfig['tables']
  readonly gateways?: number
  readonly gateway?: MigrationConfig['gateway']
  readonly lease?: MigrationConfig['lease']
  readonly source?: Omit<MigrationConfig['source'], 'urlEnv'>
  readonly controller?: MigrationConfig['controller']
  /** Off unless a test is about it: it would turn the faults that others plant into a rollback. */
  readonly judge?: MigrationConfig['judge']
  /** On the line to the target; the test's own hands on `Move.target.target` are not behind it. */
  readonly faults?: FaultHook
}

export interface Move extends AsyncDisposable {
  readonly database: TestDatabase
  readonly target: MemoryServer
  readonly mapping: Mapping
  readonly gateways: readonly RunningGateway[]
  readonly session: Workspace['session']
  /** For a command, or one more process, of this move. */
  readonly configPath: string
  readonly env: NodeJS.ProcessEnv
  /** A client of a gateway; ended with the world. */
  client(gateway?: number, config?: pg.ClientConfig): Promise<pg.Client>
  /** Moves the slots of these keys, or all, and waits until it is done. Throws what held it. */
  move(to: Owner, keys?: readonly string[]): Promise<void>
  slotOf(key: string): SlotId
  /** Ends gateways and controller in order; stores stay. */
  stop(): Promise<void>
}

/** Backfilled, both syncs running, every slot still on PostgreSQL. */
export async function startMove(options: MoveOptions): Promise<Move> {
  const cleanup = cleanupStack()
  const deprecations = watchDeprecations()
  cleanup.defer(async () => assert.deepEqual(await deprecations.seen(), []))
  try {
    return await start(options, cleanup)
  } catch (error) {
    await cleanup.disposeAsync()
    throw error
  }
}

/** What was opened, closed in the opposite order. */
interface CleanupStack {
  use<T extends AsyncDisposable>(opened: T): T
  defer(close: () => unknown): void
  disposeAsync(): Promise<void>
}

function cleanupStack(): CleanupStack {
  const closes: (() => unknown)[] = []
  return {
    use(opened) {
      closes.push(() => opened[Symbol.asyncDispose]())
      return opened
    },
    defer(close) {
      closes.push(close)
    },
    async disposeAsync() {
      const failures: unknown[] = []
      for (const close of closes.splice(0).reverse()) {
        try {
          await close()
        } catch (error) {
          failures.push(error)
        }
      }
      if (failures.length > 0) throw failures[0]
    },
  }
}

async function start(options: MoveOptions, cleanup: CleanupStack): Promise<Move> {
  const database = cleanup.use(await testDatabase(options.sql))
  const target = cleanup.use(await serveMemoryTarget(options.faults === undefined ? {} : { faults: options.faults }))
  const path = configure(options, { migration: database.name, port: target.port }, cleanup)
  const env = { TEST_SOURCE_URL: database.url }
  const log = pino({ level: process.env['TEST_LOG'] ?? 'silent' })
  await installMove(path, env)
  const open = async () => {
    const workspace = await openWorkspace(path, env)
    cleanup.defer(() => workspace.close())
    return workspace
  }
  const stop = new AbortController()
  const workspace = await open()
  const controlling = runController({ workspace: await open(), env, name: 'controller', log, signal: stop.signal })
  controlling.catch(() => undefined)
  cleanup.defer(async () => {
    stop.abort()
    await controlling
  })
  const gateways: RunningGateway[] = []
  const closers: (() => Promise<void>)[] = []
  for (let n = 1; n <= (options.gateways ?? 1); n++) {
    const gateway = await runGateway({ workspace: await open(), env, name: `gateway ${n}`, host: '127.0.0.1', port: 0, log })
    const close = once(() => gateway.close())
    cleanup.defer(close)
    closers.push(close)
    gateways.push(gateway)
  }
  await backfill(workspace, env, stop.signal)
  const { session, mapping } = workspace
  const slotOf = (key: string) => hashSlotOf(canonicalKey(mapping.keyType, key))
  return {
    database,
    target,
    mapping,
    gateways,
    session,
    configPath: path,
    env,
    slotOf,
    async stop() {
      await Promise.all(closers.map((close) => close()))
      stop.abort()
      await controlling
    },
    async client(gateway = 0, more = {}) {
      const url = new URL(database.url)
      url.port = String(gateways[gateway]!.port)
      const client = new pg.Client({ connectionString: url.href, query_timeout: 30_000, ...more })
      client.on('error', () => undefined)
      await client.connect()
      cleanup.defer(() => client.end().catch(() => undefined))
      return client
    },
    async move(to, keys) {
      const slots = keys === undefined ? Array.from({ length: HASH_SLOTS }, (_, slot) => slot) : [...new Set(keys.map(slotOf))]
      const job = await placeOrder(session, { kind: 'move', to, slots, readOnlyFirst: false }, () => undefined, stop.signal)
      const held = (job.result?.['held'] ?? []) as readonly unknown[]
      if (job.state !== 'done' || held.length > 0) throw new Error(`the move to the ${to} is ${job.state}: ${JSON.stringify(job.result)}`)
    },
    [Symbol.asyncDispose]: () => cleanup.disposeAsync(),
  }
}

/** Path of the configuration. */
function configure(options: MoveOptions, of: { readonly migration: string; readonly port: number }, cleanup: CleanupStack): string {
  const folder = mkdtempSync(join(tmpdir(), 'switchback-move-'))
  cleanup.defer(() => rmSync(folder, { recursive: true, force: true }))
  const path = join(folder, 'switchback.config.ts')
  const config: MigrationConfig = {
    migration: of.migration,
    source: { urlEnv: 'TEST_SOURCE_URL', ...options.source },
    target: { kind: 'memory', port: of.port },
    tables: options.tables,
    controller: { port: 0, ...options.controller },
    judge: options.judge ?? { enabled: false },
    ...(options.gateway === undefined ? {} : { gateway: options.gateway }),
    ...(options.lease === undefined ? {} : { lease: options.lease }),
  }
  writeFileSync(path, `export default ${JSON.stringify(config)}\n`)
  return path
}

function once(work: () => Promise<void>): () => Promise<void> {
  let done: Promise<void> | null = null
  return () => {
    done ??= work()
    return done
  }
}

async function backfill(workspace: Workspace, env: NodeJS.ProcessEnv, signal: AbortSignal): Promise<void> {
  const target = await openWorkspaceTarget(workspace, env)
  const source = openSource(workspace)
  try {
    await backfillNow({ workspace, source, target, workers: 1, rowsPerSecondMax: null, onProgress: () => undefined, signal })
  } finally {
    await target.close()
  }
}
