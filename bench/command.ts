// Promises: a command of Switchback as a user runs it, in a process of its own, with its result and the most memory it ever held.
import { spawn } from 'node:child_process'
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type CommandOptions, switchback } from '../examples/ledger/processes.ts'
import type { TargetConfig } from '../src/model/migration.ts'
import { ACCOUNTS } from './accounts.ts'

export interface Ran {
  readonly result: Readonly<Record<string, unknown>>
  /** The kernel's high-water mark; null where the kernel tells none. */
  readonly rssMiB: number | null
}

export interface Workplace {
  run(args: readonly string[], signal: AbortSignal): Promise<Ran>
  /** For commands that go on running. */
  readonly command: CommandOptions
  remove(): void
}

const LOOK_MS = 25
const COMMAND_MAX_MS = 300_000

export function workplace(migration: string, databaseUrl: string, target: TargetConfig, controllerPort = 0): Workplace {
  const folder = mkdtempSync(join(tmpdir(), 'switchback-bench-'))
  const config = {
    migration,
    source: { urlEnv: 'BENCH_DATABASE_URL' },
    target,
    tables: { [ACCOUNTS]: { partitionKey: 'id' } },
    controller: { port: controllerPort },
  }
  writeFileSync(
    join(folder, 'switchback.config.ts'),
    `import { defineMigration } from 'switchback'\n\nexport default defineMigration(${JSON.stringify(config, null, 2)})\n`,
  )
  const env = { ...process.env, BENCH_DATABASE_URL: databaseUrl, AWS_ACCESS_KEY_ID: 'bench', AWS_SECRET_ACCESS_KEY: 'bench' }
  return {
    run: (args, signal) => run(args, { cwd: folder, env, signal }),
    command: { cwd: folder, env },
    remove: () => rmSync(folder, { recursive: true, force: true }),
  }
}

async function run(args: readonly string[], options: { cwd: string; env: NodeJS.ProcessEnv; signal: AbortSignal }): Promise<Ran> {
  const [command, argv] = switchback([...args, '--json'])
  const child = spawn(command, argv, { cwd: options.cwd, env: options.env, stdio: ['ignore', 'pipe', 'pipe'] })
  const stop = () => child.kill('SIGKILL')
  const deadline = setTimeout(stop, COMMAND_MAX_MS)
  options.signal.addEventListener('abort', stop, { once: true })
  let out = ''
  let err = ''
  let rssMiB: number | null = null
  const look = setInterval(() => {
    rssMiB = highWaterMiB(child.pid!) ?? rssMiB
  }, LOOK_MS)
  child.stdout.on('data', (chunk: Buffer) => {
    out += chunk.toString('utf8')
  })
  child.stderr.on('data', (chunk: Buffer) => {
    err = (err + chunk.toString('utf8')).slice(-4_000)
  })
  const exitCode = await new Promise<number | null>((resolve) => child.once('close', resolve))
  clearInterval(look)
  clearTimeout(deadline)
  options.signal.removeEventListener('abort', stop)
  if (exitCode !== 0) throw new Error(`switchback ${args.join(' ')} ended with ${exitCode}: ${err}${out}`)
  return { result: JSON.parse(out.trim().split('\n').at(-1)!) as Record<string, unknown>, rssMiB }
}

/** Linux only: elsewhere the figure is left out, since a sample now and then is no maximum. */
function highWaterMiB(pid: number): number | null {
  const file = `/proc/${pid}/status`
  if (!existsSync(file)) return null
  try {
    const kibibytes = /^VmHWM:\s+(\d+) kB/m.exec(readFileSync(file, 'utf8'))?.[1]
    return kibibytes === undefined ? null : Number(kibibytes) / 1024
  } catch {
    return null // it has just ended
  }
}
