// Promises: everything the demo runs on, started with free ports in a temporary folder, and ended in reverse order.
import { rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import pg from 'pg'
import { startDynalite } from '../../src/app/embedded/dynalite.ts'
import { freePort } from '../../src/app/embedded/free-port.ts'
import { type EmbeddedPostgres, startEmbeddedPostgres } from '../../src/app/embedded/postgres.ts'
import { makeTemporaryFolder, writeNewFile } from '../../src/app/write-file.ts'
import type { JudgeOptions } from '../../src/model/migration.ts'
import { FaultProxy } from './fault-proxy.ts'
import type { CommandOptions } from './processes.ts'
import { LEDGER_SCHEMA, seedSql } from './schema.ts'
import type { DynamoPlace } from './stores.ts'

export interface World {
  readonly folder: string
  readonly databaseUrl: string
  /** Where the ledger connects. */
  readonly gatewayUrls: readonly string[]
  readonly gatewayPorts: readonly number[]
  readonly dynamo: DynamoPlace
  readonly journalPath: string
  readonly command: CommandOptions
  readonly postgres: EmbeddedPostgres
  /** kill -9 of the store's process, then the store again on the same port with what it has acknowledged. Needs `durableTarget`. */
  killAndRestartTarget(): Promise<void>
  /** The store's process stands still, its sockets open: a black hole. Resumed before `close`. */
  pauseTarget(): void
  resumeTarget(): void
  /** Null: Switchback's processes reach everything directly. */
  readonly lines: FaultLines | null
  /** Another `judge` in the configuration; who runs has read the one before. */
  configureJudge(judge: JudgeOptions): void
  /** Ends what was deferred, last first; idempotent. */
  close(): Promise<void>
  defer(end: () => unknown): void
}

export interface FaultLines {
  /** Of gateways, controller and commands to the store. */
  readonly store: FaultProxy
  /** Of the gateways to the controller. */
  readonly feed: FaultProxy
}

export interface WorldOptions {
  readonly accounts: number
  readonly say: (text: string) => void
  readonly progress: (line: string) => void
  readonly signal: AbortSignal
  /** The store keeps its data in a folder, so that its process may die. */
  readonly durableTarget?: boolean
  /** Lines that can be broken, between Switchback's processes and to the store. */
  readonly lines?: boolean
  /** The configuration's `judge`. */
  readonly judge?: JudgeOptions
}

export const TABLE_PREFIX = 'ledger_'

export async function startWorld(options: WorldOptions): Promise<World> {
  const ends: (() => unknown)[] = []
  const close = async () => {
    const failures: unknown[] = []
    for (const end of ends.splice(0).reverse()) {
      try {
        await end()
      } catch (error) {
        failures.push(error) // the others end all the same
      }
    }
    if (failures.length > 0) throw failures[0]
  }
  try {
    return await start(options, ends, close)
  } catch (error) {
    await close()
    throw error
  }
}

async function start(options: WorldOptions, ends: (() => unknown)[], close: () => Promise<void>): Promise<World> {
  const folder = makeTemporaryFolder('switchback-demo-')
  const remove = () => rmSync(folder, { recursive: true, force: true })
  // Where there is no time for the rest: the embedded servers end by themselves, and the processes are killed.
  process.once('exit', remove)
  ends.push(() => {
    process.off('exit', remove)
    remove()
  })
  options.say('Starting an embedded PostgreSQL and an embedded DynamoDB-compatible store (dynalite).')
  const postgres = await startEmbeddedPostgres({ settings: { max_connections: '200', shared_buffers: '128MB' } })
  ends.push(() => postgres.stop())
  const store = options.durableTarget ? { folder: join(folder, 'store') } : {}
  let dynalite = await startDynalite(store)
  ends.push(() => dynalite.stop())
  const databaseUrl = await createLedger(postgres.url(), postgres.url('ledger'), options.accounts)
  const [first, second, controller] = [await freePort(), await freePort(), await freePort()]
  const lines = options.lines ? await openLines(dynalite.port, controller, ends) : null
  const endpoint = lines === null ? dynalite.endpoint : `http://127.0.0.1:${lines.store.port}`
  const configFile = join(folder, 'switchback.config.ts')
  const config = { endpoint, gatewayPort: first, controllerPort: controller, lines, options }
  writeNewFile(configFile, configText(config), { left: 'Nothing was changed.' })
  return {
    folder,
    databaseUrl,
    gatewayUrls: [first, second].map((port) => databaseUrl.replace(/@[^/]+\//, `@127.0.0.1:${port}/`)),
    gatewayPorts: [first, second],
    dynamo: { endpoint: dynalite.endpoint, accessKeyId: 'demo', secretAccessKey: 'demo', tablePrefix: TABLE_PREFIX },
    journalPath: join(folder, 'journal.jsonl'),
    command: {
      cwd: folder,
      env: { ...process.env, LEDGER_DATABASE_URL: databaseUrl, AWS_ACCESS_KEY_ID: 'demo', AWS_SECRET_ACCESS_KEY: 'demo' },
      onProgress: options.progress,
      signal: options.signal,
    },
    postgres,
    async killAndRestartTarget() {
      const { port } = dynalite
      await dynalite.kill()
      dynalite = await startDynalite({ ...store, port })
    },
    pauseTarget: () => void process.kill(dynalite.pid, 'SIGSTOP'),
    resumeTarget: () => void process.kill(dynalite.pid, 'SIGCONT'),
    lines,
    configureJudge: (judge) => writeFileSync(configFile, configText({ ...config, options: { ...options, judge } })),
    close,
    defer: (end) => ends.push(end),
  }
}

async function openLines(storePort: number, controllerPort: number, ends: (() => unknown)[]): Promise<FaultLines> {
  const open = async (port: number) => {
    const line = await FaultProxy.open(port)
    ends.push(() => line[Symbol.asyncDispose]())
    return line
  }
  return { store: await open(storePort), feed: await open(controllerPort) }
}

async function createLedger(adminUrl: string, url: string, accounts: number): Promise<string> {
  await connected(adminUrl, (client) => client.query('create database ledger'))
  await connected(url, async (client) => {
    await client.query(LEDGER_SCHEMA)
    await client.query(seedSql(accounts))
    await client.query('analyze')
  })
  return url
}

async function connected(url: string, work: (client: pg.Client) => Promise<unknown>): Promise<void> {
  const client = new pg.Client({ connectionString: url, query_timeout: 120_000 })
  client.on('error', () => undefined) // told to the query that runs
  await client.connect()
  try {
    await work(client)
  } finally {
    await client.end().catch(() => undefined)
  }
}

interface ConfigParts {
  readonly endpoint: string
  readonly gatewayPort: number
  readonly controllerPort: number
  readonly lines: FaultLines | null
  readonly options: WorldOptions
}

function configText({ endpoint, gatewayPort, controllerPort, lines, options: { judge } }: ConfigParts): string {
  const advertise = lines === null ? '' : `, advertise: { port: ${lines.feed.port} }`
  const judging = judge === undefined ? '' : `\n  judge: ${JSON.stringify(judge)},`
  return `import { defineMigration } from 'switchback'

export default defineMigration({
  migration: 'ledger',
  source: { urlEnv: 'LEDGER_DATABASE_URL' },
  target: { kind: 'dynamodb', endpoint: '${endpoint}', region: 'local', tablePrefix: '${TABLE_PREFIX}' },
  tables: {
    'public.accounts': { partitionKey: 'id' },
    'public.entries': { partitionKey: 'account_id' },
    'public.profiles': { partitionKey: 'account_id' },
  },
  gateway: { port: ${gatewayPort} },
  controller: { port: ${controllerPort}${advertise} },${judging}
  signingKeyFile: 'switchback.key',
  invariants: [
    {
      name: 'balance = sum of entries',
      violations: \`
        select a.id
          from public.accounts a
          left join public.entries e on e.account_id = a.id
         group by a.id, a.balance
        having a.balance <> coalesce(sum(e.amount), 0)\`,
    },
  ],
})
`
}
