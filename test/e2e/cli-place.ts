// Promises: a folder with a configuration for a test's own database, in which the real program runs, in this process or as a child;
// and what it left behind in PostgreSQL and in the folder, as one value.
import { type ChildProcess, spawn } from 'node:child_process'
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Writable } from 'node:stream'
import { switchback } from '../../examples/ledger/processes.ts'
import { runProgram } from '../../src/cli/program.ts'
import { eventually } from '../support/eventually.ts'
import { type TestDatabase, testDatabase } from '../support/postgres.ts'

export interface Ended {
  readonly exitCode: number | null
  readonly stdout: string
  readonly stderr: string
}

export interface Running {
  readonly child: ChildProcess
  readonly ended: Promise<Ended>
  /** Resolves when its output (both streams) matches. */
  says(pattern: RegExp, deadlineMs?: number): Promise<void>
  /** Both streams so far. */
  output(): string
}

export interface Place extends AsyncDisposable {
  readonly db: TestDatabase
  readonly folder: string
  readonly env: NodeJS.ProcessEnv
  /** In this process: what a process of its own would add is tested once a command. */
  run(args: readonly string[], env?: NodeJS.ProcessEnv): Promise<Ended>
  /** As a process, to its end. */
  process(args: readonly string[], env?: NodeJS.ProcessEnv): Promise<Ended>
  start(args: readonly string[], env?: NodeJS.ProcessEnv): Running
  /** Everything of Switchback's that is in this database or was made in the folder. */
  left(): Promise<readonly string[]>
}

export interface PlaceOptions {
  readonly tables?: string
  readonly target?: string
  readonly more?: string
  /** Instead of all of the above. */
  readonly config?: string | null
}

export const ACCOUNTS = `
  create table public.accounts (id int8 primary key, name text);
  create table public.entries (account_id int8 not null references public.accounts, n int, amount numeric(20, 4), primary key (account_id, n));`
export const TABLES = `'public.accounts': { partitionKey: 'id' }, 'public.entries': { partitionKey: 'account_id' }`
/** A port on which nobody listens. */
export const NOBODY = `{ kind: 'memory', port: 9 }`

export async function place(sql: string, options: PlaceOptions = {}): Promise<Place> {
  const db = await testDatabase(sql)
  const folder = mkdtempSync(join(tmpdir(), 'switchback-cli-'))
  const { tables = TABLES, target = NOBODY, more = '' } = options
  const config =
    options.config ??
    `import { defineMigration } from 'switchback'
export default defineMigration({ migration: '${db.name}', source: { urlEnv: 'SOURCE_URL' }, target: ${target}, tables: { ${tables} }, ${more} })\n`
  if (options.config !== null) writeFileSync(join(folder, 'switchback.config.ts'), config)
  const env: NodeJS.ProcessEnv = { ...process.env, SOURCE_URL: db.url, AWS_ACCESS_KEY_ID: '', AWS_SECRET_ACCESS_KEY: '' }
  const before = new Set(readdirSync(folder))
  const running = new Set<ChildProcess>()
  const start = (args: readonly string[], more: NodeJS.ProcessEnv = {}): Running => {
    const started = startCommand(args, folder, { ...env, ...more })
    running.add(started.child)
    void started.ended.then(() => running.delete(started.child))
    return started
  }
  return {
    db,
    folder,
    env,
    start,
    run: (args, more) => runHere(args, folder, { ...env, ...more }),
    process: (args, more) => start(args, more).ended,
    async left() {
      const { rows } = await db.query(LEFT, [db.name])
      const files = readdirSync(folder)
      return [...rows.map((row: { what: string }) => row.what), ...files.filter((file) => !before.has(file)).map((file) => `file ${file}`)]
    },
    async [Symbol.asyncDispose]() {
      for (const child of running) child.kill('SIGKILL')
      rmSync(folder, { recursive: true, force: true })
      await db[Symbol.asyncDispose]()
    },
  }
}

const LEFT = `
  select 'schema ' || nspname as what from pg_namespace where nspname = 'switchback'
  union all select 'slot ' || slot_name from pg_replication_slots where database = current_database()
  union all select 'publication ' || pubname from pg_publication
  union all select 'trigger ' || tgname from pg_trigger where not tgisinternal
  union all select 'event trigger ' || evtname from pg_event_trigger
  union all select 'role ' || rolname from pg_roles where rolname = 'switchback_applier_' || $1
  union all select 'origin ' || roname from pg_replication_origin where roname = 'switchback_' || $1`

let before: Promise<unknown> = Promise.resolve()

/** One at a time: the working folder is the process's. */
export function runHere(args: readonly string[], folder: string, env: NodeJS.ProcessEnv): Promise<Ended> {
  const run = async (): Promise<Ended> => {
    const home = process.cwd()
    const [stdout, stderr] = [new Kept(), new Kept()]
    let exitCode: number | null = null
    const exit = (code: number) => {
      exitCode = code
    }
    process.chdir(folder)
    try {
      await runProgram(args, { env, stdout, stderr, exit })
    } finally {
      process.chdir(home)
    }
    return { exitCode, stdout: stdout.text, stderr: stderr.text }
  }
  const running = before.then(run)
  before = running.catch(() => undefined)
  return running
}

class Kept extends Writable {
  text = ''

  override _write(chunk: Buffer, _encoding: string, done: () => void): void {
    this.text += chunk.toString('utf8')
    done()
  }
}

export function startCommand(args: readonly string[], cwd: string, env: NodeJS.ProcessEnv): Running {
  const [command, argv] = switchback(args)
  const child = spawn(command, argv, { cwd, env, stdio: ['ignore', 'pipe', 'pipe'] })
  let [stdout, stderr] = ['', '']
  child.stdout.on('data', (chunk: Buffer) => {
    stdout += chunk.toString('utf8')
  })
  child.stderr.on('data', (chunk: Buffer) => {
    stderr += chunk.toString('utf8')
  })
  const ended = new Promise<Ended>((resolve) => child.once('close', (exitCode) => resolve({ exitCode, stdout, stderr })))
  return {
    child,
    ended,
    output: () => stdout + stderr,
    async says(pattern, deadlineMs = 30_000) {
      await eventually(() => pattern.test(stdout + stderr), `the output matches ${pattern}`, deadlineMs).catch(() => {
        throw new Error(`not said within ${deadlineMs} ms: ${pattern}\n${stdout}\n${stderr}`)
      })
    },
  }
}

/** The one object on standard output. */
export function objectOf({ stdout }: Ended): Record<string, unknown> {
  const lines = stdout.trim().split('\n')
  if (lines.length !== 1) throw new Error(`standard output has ${lines.length} lines: ${stdout}`)
  return JSON.parse(stdout) as Record<string, unknown>
}
