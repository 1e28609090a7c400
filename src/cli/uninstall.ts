// Promises: `switchback uninstall`: the move is called off on PostgreSQL; everything Switchback made is removed and shown to be gone.
import type { Command } from 'commander'
import { openWorkspaceTarget } from '../app/open-parts.ts'
import { uninstall } from '../app/uninstall.ts'
import { openWorkspace } from '../app/workspace.ts'
import { SwitchbackError } from '../model/errors.ts'
import { type CommandContext, command, handled } from './command.ts'
import type { ExitCode } from './output.ts'

interface Flags {
  readonly confirm: string
  readonly targetRows?: boolean
}

export function uninstallCommand(): Command {
  const cmd = command('uninstall', 'call the move off: all keys are on PostgreSQL; removes everything Switchback made')
    .requiredOption('--confirm <migration>', 'the name of the migration')
    .option('--target-rows', 'drop the mapped tables on the target too')
  return handled(cmd, async (context: CommandContext, flags: Flags): Promise<ExitCode> => {
    const workspace = await openWorkspace(context.configPath, context.env)
    try {
      if (flags.confirm !== workspace.config.migration)
        throw new SwitchbackError('CONFIRM_MISMATCH', { given: flags.confirm, migration: workspace.config.migration })
      const target = await openWorkspaceTarget(workspace, context.env)
      try {
        const removed = await uninstall(workspace, target, { targetRows: flags.targetRows === true })
        context.out.line(`Removed, and seen to be gone: ${removed.join(', ')}.`)
        context.out.result({ ok: true, removed })
        return 0
      } finally {
        await target.close()
      }
    } finally {
      await workspace.close()
    }
  })
}
