// Promises: what a round is played on: both stores, two gateways, a controller and its standby, as a user starts them, each with a line of
// its own to each store and a failpoint that can be armed while it runs; and a client process per gateway.
import { readFileSync, renameSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import pg from 'pg'
import { FaultProxy } from '../../examples/ledger/fault-proxy.ts'
import { type LoadProcess, startLoadProcess } from '../../examples/ledger/load-process.ts'
import { type CommandOptions, type CommandResult, runCommand, Supervised } from '../../examples/ledger/processes.ts'
import { startWorld, type World } from '../../examples/ledger/world.ts'
import { freePort } from '../../src/app/embedded/free-port.ts'
import type { JudgeOptions } from '../../src/model/migration.ts'
import { CONTROLLERS, GATEWAYS, type Line, PROCESSES, type ProcessName, STORES } from './plan.ts'
import type { Armed } from './points.ts'

export const ACCOUNTS = 200
const RATE_PER_GATEWAY = 30
const CONNECTIONS = 12
const LOAD_GIVES_UP_MS = 30_000
const QUERY_TIMEOUT_MS = 5_000
/** No compiler makes a copy of it. */
const FAILPOINTS = new URL(import.meta.url.endsWith('.ts') ? './failpoints.mjs' : '../../../test/chaos/failpoints.mjs', import.meta.url)
  .href

export interface Scene {
  readonly world: World
  readonly processes: ReadonlyMap<ProcessName, Supervised>
  /** In the order of GATEWAYS, each connected to one of them alone: one pool over both would stay with the one that lives. */
  readonly loads: readonly LoadProcess[]
  line(line: Line): FaultProxy
  /** Of a process that runs, from now on; null: of none. */
  arm(who: ProcessName, armed: Armed | null): void
  journalPath(load: number): string
  /** As an operator's shell, on lines that never break. */
  command(args: readonly string[]): Promise<CommandResult>
  /** The same, to die at the point. */
  commandArmed(args: readonly string[], armed: Armed): Promise<CommandResult>
  /** Of PostgreSQL, on a connection of its own. */
  query(sql: string): Promise<Record<string, string>[]>
  /** A transaction that keeps what it has locked until it is let go. */
  hold(sql: string): Promise<() => Promise<void>>
  close(): Promise<void>
}

/** So that each kill may bring a verdict, and evidence of all is there at the end. */
const JUDGE: JudgeOptions = { silenceMs: 3_000, evidenceFilesMax: 1_000 }

export interface SceneOptions {
  readonly seed: number
  readonly judged: boolean
  readonly signal: AbortSignal
}

export async function openScene({ seed, judged, signal }: SceneOptions): Promise<Scene> {
  const world = await startWorld({
    accounts: ACCOUNTS,
    durableTarget: true,
    // It turns back what is planted here, and then the moves are not the round's own alone.
    judge: judged ? JUDGE : { enabled: false },
    say: () => undefined,
    progress: () => undefined,
    signal,
  })
  try {
    return await peopled(world, seed)
  } catch (error) {
    await world.close()
    throw error
  }
}

async function peopled(world: World, seed: number): Promise<Scene> {
  // As on two machines: each has its own port for the gateways to tell of commits, and they reach it by its line.
  const feedPorts = new Map<ProcessName, number>()
  for (const who of CONTROLLERS) feedPorts.set(who, await freePort())
  const lines = await openLines(world, feedPorts)
  const line = ({ from, to }: Line) => lines.get(`${from} ${to}`)!
  const init = await runCommand(['init'], world.command)
  if (init.exitCode !== 0) throw new Error(`switchback init: ${init.stderr}`)
  const armedPath = (who: string) => join(world.folder, `${who}.armed.json`)
  const processes = new Map<ProcessName, Supervised>()
  for (const who of PROCESSES) {
    const supervised = new Supervised(
      who,
      argumentsOf(who, world, { line, feedPort: feedPorts.get(who) }),
      optionsOf(who, world, line, armedPath(who)),
    )
    world.defer(() => supervised.stop())
    processes.set(who, supervised)
  }
  const journalPath = (load: number) => `${world.journalPath}.${load}`
  const loads = GATEWAYS.map((to, i) => {
    const load = startLoadProcess({
      urls: [through(world.gatewayUrls[i]!, line({ from: 'clients', to }).port)],
      ratePerSecond: RATE_PER_GATEWAY,
      zipf: 0.9,
      accounts: ACCOUNTS,
      seed: seed * GATEWAYS.length + i,
      journalPath: journalPath(i),
      connectionsPerUrl: CONNECTIONS,
      giveUpMs: LOAD_GIVES_UP_MS,
    })
    world.defer(() => load.kill())
    return load
  })
  return {
    world,
    processes,
    loads,
    line,
    arm(who, armed) {
      writeWhole(armedPath(who), armed)
      const pid = processes.get(who)!.pid
      if (pid !== null) process.kill(pid, 'SIGUSR2')
    },
    journalPath,
    command: (args) => runCommand(args, world.command),
    commandArmed(args, armed) {
      writeWhole(armedPath('command'), armed)
      return runCommand(args, { ...world.command, env: armable(world.command.env, armedPath('command')) })
    },
    query: (sql) => query(world.databaseUrl, sql),
    hold: (sql) => hold(world.databaseUrl, sql),
    close: () => world.close(),
  }
}

/** One for each pair that can be broken. */
async function openLines(world: World, feedPorts: ReadonlyMap<ProcessName, number>): Promise<ReadonlyMap<string, FaultProxy>> {
  const lines = new Map<string, FaultProxy>()
  const open = async (from: string, to: string, port: number) => {
    const proxy = await FaultProxy.open(port)
    world.defer(() => proxy[Symbol.asyncDispose]())
    lines.set(`${from} ${to}`, proxy)
  }
  const ports = { postgres: world.postgres.port, target: Number(new URL(world.dynamo.endpoint).port) }
  for (const from of PROCESSES) for (const to of STORES) await open(from, to, ports[to])
  for (const [i, to] of GATEWAYS.entries()) await open('clients', to, world.gatewayPorts[i]!)
  for (const to of CONTROLLERS) await open('gateways', to, feedPorts.get(to)!)
  return lines
}

function argumentsOf(who: ProcessName, world: World, { line, feedPort }: { line: Scene['line']; feedPort: number | undefined }): string[] {
  const target = line({ from: who, to: 'target' }).port
  let text = readFileSync(join(world.folder, 'switchback.config.ts'), 'utf8')
  text = replaced(text, world.dynamo.endpoint, through(world.dynamo.endpoint, target))
  if (isController(who) && feedPort !== undefined) {
    const { port } = line({ from: 'gateways', to: who })
    text = replaced(text, /controller: \{ port: \d+ \}/, `controller: { port: ${feedPort}, advertise: { port: ${port} } }`)
  }
  const config = join(world.folder, `${who}.config.ts`)
  writeFileSync(config, text)
  const common = ['--name', who, '--config', config]
  const gateway = (GATEWAYS as readonly string[]).indexOf(who)
  return gateway < 0 ? ['controller', ...common] : ['gateway', '--port', String(world.gatewayPorts[gateway]), ...common]
}

function optionsOf(who: ProcessName, world: World, line: Scene['line'], armedPath: string): CommandOptions {
  const url = through(world.databaseUrl, line({ from: who, to: 'postgres' }).port)
  return { ...world.command, env: armable({ ...world.command.env, LEDGER_DATABASE_URL: url }, armedPath) }
}

function armable(env: NodeJS.ProcessEnv, file: string): NodeJS.ProcessEnv {
  return { ...env, NODE_OPTIONS: `${env['NODE_OPTIONS'] ?? ''} --import ${FAILPOINTS}`, FAILPOINT_FILE: file }
}

/** Else a process would go past its line without a word. */
function replaced(text: string, from: string | RegExp, to: string): string {
  const changed = text.replace(from, to)
  if (changed === text) throw new Error(`nothing is like ${String(from)}: ${text.slice(0, 200)}`)
  return changed
}

/** The same place, by another port. */
function through(url: string, port: number): string {
  return replaced(url, /127\.0\.0\.1:\d+/, `127.0.0.1:${port}`)
}

/** Whoever starts meanwhile reads the one of before or this one. */
function writeWhole(path: string, value: unknown): void {
  writeFileSync(`${path}.new`, JSON.stringify(value))
  renameSync(`${path}.new`, path)
}

async function connected(url: string): Promise<pg.Client> {
  const client = new pg.Client({ connectionString: url, query_timeout: QUERY_TIMEOUT_MS, connectionTimeoutMillis: QUERY_TIMEOUT_MS })
  client.on('error', () => undefined)
  await client.connect()
  return client
}

async function hold(url: string, sql: string): Promise<() => Promise<void>> {
  const client = await connected(url)
  await client.query(`begin; ${sql}`)
  return () => client.end().catch(() => undefined)
}

async function query(url: string, sql: string): Promise<Record<string, string>[]> {
  const client = await connected(url)
  try {
    return (await client.query<Record<string, string>>(sql)).rows
  } finally {
    await client.end().catch(() => undefined)
  }
}

export function isController(who: string): who is (typeof CONTROLLERS)[number] {
  return (CONTROLLERS as readonly string[]).includes(who)
}
