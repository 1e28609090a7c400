// Promises: `switchback up`: a controller and a gateway in one process, for small services.

import { hostname } from 'node:os'
import type { Command } from 'commander'
import { runController } from '../app/run-controller.ts'
import { runGateway } from '../app/run-gateway.ts'
import { openWorkspace } from '../app/workspace.ts'
import { type CommandContext, command, handled, logger } from './command.ts'
import { portNumber } from './numbers.ts'
import type { ExitCode } from './output.ts'

export function upCommand(): Command {
  const cmd = command('up', 'a controller and a gateway in one process, for small services').option(
    '--port <port>',
    'of the gateway',
    portNumber,
  )
  return handled(cmd, async (context: CommandContext, flags: { port?: number }): Promise<ExitCode> => {
    const name = `${hostname()}:${process.pid}`
    const [forGateway, forController] = [
      await openWorkspace(context.configPath, context.env),
      await openWorkspace(context.configPath, context.env),
    ]
    try {
      const gateway = await runGateway({
        workspace: forGateway,
        env: context.env,
        name,
        log: logger('gateway', context.env),
        ...(flags.port === undefined ? {} : { port: flags.port }),
      })
      context.out.line(`Gateway ${name} listens on port ${gateway.port}.`)
      try {
        await runController({
          workspace: forController,
          env: context.env,
          name,
          log: logger('controller', context.env),
          onLead: (token) => context.out.line(`This controller leads (token ${token}).`),
          signal: context.signal,
        })
      } finally {
        await gateway.close()
      }
      return 0
    } finally {
      await forGateway.close()
      await forController.close()
    }
  })
}
