// Promises: what every command shares: --config, --json, Ctrl-C as a signal, one clear error, an honest exit code.
import { Command, Option } from 'commander'
import { type Logger, pino } from 'pino'
import { SwitchbackError } from '../model/errors.ts'
import { createOutput, type ExitCode, type Output } from './output.ts'

export interface CommandContext {
  readonly out: Output
  readonly configPath: string | undefined
  readonly env: NodeJS.ProcessEnv
  /** Aborts at the first Ctrl-C or SIGTERM; a second one ends the process at once. */
  readonly signal: AbortSignal
}

export function command(name: string, summary: string): Command {
  return new Command(name)
    .description(summary)
    .addOption(new Option('-c, --config <file>', 'the configuration').default(undefined, 'switchback.config.ts'))
    .option('--json', 'one JSON object on standard output, nothing else')
}

/** Logs go to standard error, so that standard output carries what was asked for and nothing else. */
export function logger(name: string, env: NodeJS.ProcessEnv): Logger {
  const level = env['SWITCHBACK_LOG'] ?? 'info'
  if (!LEVELS.includes(level))
    throw new SwitchbackError('USAGE', { problem: `SWITCHBACK_LOG is "${level}", not one of ${LEVELS.join(', ')}` })
  return pino({ name, level }, pino.destination({ fd: 2, sync: true }))
}

const LEVELS = ['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent']

/** Where a program meets the world: the process's own, unless it was given another (program.ts). */
export interface Edge {
  readonly env: NodeJS.ProcessEnv
  readonly stdout: NodeJS.WritableStream
  readonly stderr: NodeJS.WritableStream
  exit(code: number): void
}

const PROCESS: Edge = {
  env: process.env,
  stdout: process.stdout,
  stderr: process.stderr,
  exit: (code) => {
    process.exitCode = code
  },
}
const edges = new WeakMap<Command, Edge>()

export function setEdge(program: Command, edge: Edge): void {
  edges.set(program, edge)
}

export function edgeOf(cmd: Command): Edge {
  let root = cmd
  while (root.parent !== null) root = root.parent
  return edges.get(root) ?? PROCESS
}

/** Wires a handler: it gets the context, then commander's positional arguments and options. */
export function handled<A extends unknown[]>(cmd: Command, handler: (context: CommandContext, ...args: A) => Promise<ExitCode>): Command {
  return cmd.action(async (...all: unknown[]) => {
    const self = all.at(-1) as Command
    const options = self.opts<{ config?: string; json?: boolean }>()
    const { env, stdout, stderr, exit } = edgeOf(self)
    const out = createOutput({ json: options.json === true, stdout, stderr })
    const stop = new AbortController()
    const onSignal = () => {
      if (stop.signal.aborted) process.exit(130)
      stop.abort()
    }
    process.on('SIGINT', onSignal)
    process.on('SIGTERM', onSignal)
    try {
      const context: CommandContext = { out, configPath: options.config, env, signal: stop.signal }
      exit(await handler(context, ...(all.slice(0, -1) as A)))
    } catch (error) {
      exit(out.error(error))
    } finally {
      process.off('SIGINT', onSignal)
      process.off('SIGTERM', onSignal)
    }
  })
}
