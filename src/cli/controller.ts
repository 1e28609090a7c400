// Promises: `switchback controller`: leads or stands by until it is told to stop.

import { hostname } from 'node:os'
import type { Command } from 'commander'
import { runController } from '../app/run-controller.ts'
import { openWorkspace } from '../app/workspace.ts'
import { type CommandContext, command, handled, logger } from './command.ts'
import type { ExitCode } from './output.ts'

export function controllerCommand(): Command {
  const cmd = command('controller', 'run the syncs and carry out orders; start a second one as a standby').option(
    '--name <name>',
    'names the process for people',
  )
  return handled(cmd, async (context: CommandContext, flags: { name?: string }): Promise<ExitCode> => {
    const workspace = await openWorkspace(context.configPath, context.env)
    try {
      await runController({
        workspace,
        env: context.env,
        name: flags.name ?? `${hostname()}:${process.pid}`,
        log: logger('controller', context.env),
        onStandby: () => context.out.line('Another controller leads; this one stands by.'),
        onLead: (token) => context.out.line(`This controller leads (token ${token}).`),
        signal: context.signal,
      })
      return 0
    } finally {
      await workspace.close()
    }
  })
}
