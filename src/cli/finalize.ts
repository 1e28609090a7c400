// Promises: `switchback finalize`: the one-way door. Named again before it is done.
import type { Command } from 'commander'
import { placeOrder } from '../app/place-order.ts'
import { openWorkspace } from '../app/workspace.ts'
import { SwitchbackError } from '../model/errors.ts'
import { type CommandContext, command, handled } from './command.ts'
import type { ExitCode } from './output.ts'

export function finalizeCommand(): Command {
  const cmd = command(
    'finalize',
    'end the move on the target: drops slot and reverse path; PostgreSQL refuses the mapped tables from then on',
  ).requiredOption('--confirm <migration>', 'the name of the migration: there is no way back after this')
  return handled(cmd, async (context: CommandContext, flags: { confirm: string }): Promise<ExitCode> => {
    const workspace = await openWorkspace(context.configPath, context.env)
    try {
      if (flags.confirm !== workspace.config.migration) {
        throw new SwitchbackError('CONFIRM_MISMATCH', { given: flags.confirm, migration: workspace.config.migration })
      }
      const job = await placeOrder(
        workspace.session,
        { kind: 'finalize' },
        ({ step }) => context.out.progress(step ?? 'waiting for the controller'),
        context.signal,
      )
      if (job.state !== 'done') throw new SwitchbackError('JOB_FAILED', { because: String(job.result?.['because'] ?? job.state) })
      context.out.line('The move has ended on the target. PostgreSQL refuses every write of the mapped tables.')
      context.out.result({ ok: true, ...job.result })
      return 0
    } finally {
      await workspace.close()
    }
  })
}
