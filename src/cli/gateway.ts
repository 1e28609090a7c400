// Promises: `switchback gateway`: serves until it is told to stop; gives its lease up at the end, so that nobody waits for it.

import { hostname } from 'node:os'
import type { Command } from 'commander'
import { runGateway } from '../app/run-gateway.ts'
import { openWorkspace } from '../app/workspace.ts'
import { type CommandContext, command, handled, logger } from './command.ts'
import { portNumber } from './numbers.ts'
import type { ExitCode } from './output.ts'

interface Flags {
  readonly port?: number
  readonly host?: string
  readonly name?: string
}

export function gatewayCommand(): Command {
  const cmd = command('gateway', 'serve the PostgreSQL protocol: the application changes only its host and port')
    .option('--port <port>', 'listen here instead of the configured port', portNumber)
    .option('--host <host>', 'listen on this address')
    .option('--name <name>', 'names the process for people')
  return handled(cmd, async (context: CommandContext, flags: Flags): Promise<ExitCode> => {
    const workspace = await openWorkspace(context.configPath, context.env)
    const name = flags.name ?? `${hostname()}:${process.pid}`
    try {
      const running = await runGateway({
        workspace,
        env: context.env,
        name,
        log: logger('gateway', context.env),
        ...(flags.host === undefined ? {} : { host: flags.host }),
        ...(flags.port === undefined ? {} : { port: flags.port }),
      })
      context.out.line(`Gateway ${name} listens on port ${running.port}.`)
      context.out.result({ ok: true, gateway: name, port: running.port })
      await ended(context.signal)
      await running.close()
      return 0
    } finally {
      await workspace.close()
    }
  })
}

export function ended(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) return resolve()
    signal.addEventListener('abort', () => resolve(), { once: true })
  })
}
