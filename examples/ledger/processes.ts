// Promises: the demo's processes, each started by the command a user types, found again after kill -9 as a supervisor would, and all
// of them gone at the end.

import { type ChildProcess, spawn } from 'node:child_process'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { nodeArguments } from '../../src/app/node-arguments.ts'

const EXTENSION = import.meta.url.endsWith('.ts') ? '.ts' : '.js'
const STOP_DEADLINE_MS = 15_000
const RESTART_AFTER_MS = 200
/** As of a command that was stopped. */
const STOPPED = 3

/** The command line of `switchback ARGS`, as this package runs itself. */
export function switchback(args: readonly string[]): [command: string, args: string[]] {
  return [process.execPath, [...nodeArguments(), fileURLToPath(new URL(`../../src/cli/main${EXTENSION}`, import.meta.url)), ...args]]
}

export interface CommandOptions {
  readonly cwd: string
  readonly env: NodeJS.ProcessEnv
  /** A line of progress, from the command's standard error. */
  readonly onProgress?: (line: string) => void
  readonly signal?: AbortSignal
}

export interface CommandResult {
  readonly exitCode: number
  /** It ended by it. */
  readonly signal: NodeJS.Signals | null
  readonly result: Record<string, unknown>
  readonly stderr: string
}

/** Runs a command to its end; its last JSON line is the result. Once the signal has come, none is started. */
export async function runCommand(args: readonly string[], options: CommandOptions): Promise<CommandResult> {
  if (options.signal?.aborted) return { exitCode: STOPPED, signal: null, result: {}, stderr: '' }
  const [command, argv] = switchback([...args, '--json'])
  const child = spawn(command, argv, { cwd: options.cwd, env: options.env, stdio: ['ignore', 'pipe', 'pipe'] })
  const abort = () => child.kill('SIGINT')
  options.signal?.addEventListener('abort', abort, { once: true })
  let stdout = ''
  let stderr = ''
  child.stdout.on('data', (chunk: Buffer) => {
    stdout += chunk.toString('utf8')
  })
  child.stderr.on('data', (chunk: Buffer) => {
    const text = chunk.toString('utf8')
    stderr = (stderr + text).slice(-20_000)
    for (const line of text.split('\n')) if (line.trim() !== '') options.onProgress?.(readable(line))
  })
  const { code, signal } = await new Promise<{ code: number | null; signal: NodeJS.Signals | null }>((resolve) =>
    child.once('close', (code, signal) => resolve({ code, signal })),
  )
  options.signal?.removeEventListener('abort', abort)
  const lines = stdout.trim().split('\n')
  let result: Record<string, unknown> = {}
  try {
    result = JSON.parse(lines.at(-1) ?? '{}') as Record<string, unknown>
  } catch {
    stderr += stdout
  }
  return { exitCode: code ?? 1, signal, result, stderr }
}

/** A log's JSON line as a person reads it: who says what. Any other line is as it is. */
export function readable(line: string): string {
  if (!line.startsWith('{')) return line
  try {
    const { name, msg } = JSON.parse(line) as { name?: unknown; msg?: unknown }
    return typeof name === 'string' && typeof msg === 'string' ? `${name}: ${msg}` : line
  } catch {
    return line
  }
}

/** A long-running command that is started again when it dies, until it is stopped. */
export class Supervised {
  readonly name: string
  readonly #args: readonly string[]
  readonly #options: CommandOptions
  #child: ChildProcess | null = null
  #stopping = false
  #log = ''
  restarts = 0

  constructor(name: string, args: readonly string[], options: CommandOptions) {
    this.name = name
    this.#args = args
    this.#options = options
    process.once('exit', this.#onExit)
    this.#start()
  }

  /** Whoever started it ends at once (a second Ctrl-C, a crash): it must not stay behind. */
  readonly #onExit = () => {
    this.#child?.kill('SIGKILL')
  }

  get log(): string {
    return this.#log
  }

  get running(): boolean {
    return this.#child !== null
  }

  /** Null: it is not running just now. */
  get pid(): number | null {
    return this.#child?.pid ?? null
  }

  /** Of its present life, with the wall clock when it is over, ms. Null: it is not running. */
  gone(): Promise<number> | null {
    const child = this.#child
    return child === null ? null : new Promise((resolve) => child.once('exit', () => resolve(Date.now())))
  }

  /**
   * kill -9, as a machine that loses power; the supervisor starts it again. Resolves when it is gone, with the wall clock, ms. Null: it is
   * not running just now.
   */
  kill(): Promise<number> | null {
    const gone = this.gone()
    return this.#child?.kill('SIGKILL') ? gone : null
  }

  /** Asked to end, as by an operator; the supervisor starts it again. Resolves when the old one is gone. */
  async restart(): Promise<void> {
    const gone = this.gone()
    this.#child?.kill('SIGTERM')
    await gone
  }

  async stop(): Promise<void> {
    this.#stopping = true
    process.off('exit', this.#onExit)
    const child = this.#child
    if (child === null) return
    const ended = new Promise((resolve) => child.once('exit', resolve))
    child.kill('SIGTERM')
    const timer = setTimeout(() => child.kill('SIGKILL'), STOP_DEADLINE_MS)
    await ended
    clearTimeout(timer)
  }

  #start(): void {
    const [command, argv] = switchback(this.#args)
    const child = spawn(command, argv, { cwd: this.#options.cwd, env: this.#options.env, stdio: ['ignore', 'pipe', 'pipe'] })
    this.#child = child
    for (const stream of [child.stdout, child.stderr]) {
      createInterface({ input: stream }).on('line', (line) => {
        this.#log = `${this.#log}${line}\n`.slice(-200_000)
        this.#options.onProgress?.(readable(line))
      })
    }
    child.once('exit', () => {
      this.#child = null
      if (this.#stopping) return
      this.restarts++
      setTimeout(() => {
        if (!this.#stopping) this.#start()
      }, RESTART_AFTER_MS)
    })
  }
}
