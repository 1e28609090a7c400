// Promises: `switchback readonly on|off`: reads keep working, writes get SQLSTATE 25006, at the gateways and in PostgreSQL itself.
import { Argument, type Command } from 'commander'
import { placeOrder } from '../app/place-order.ts'
import { openWorkspace } from '../app/workspace.ts'
import { SwitchbackError } from '../model/errors.ts'
import { createJobs } from '../store/jobs.ts'
import { type CommandContext, command, handled } from './command.ts'
import type { ExitCode } from './output.ts'
import { slotRange } from './slots.ts'

export function readonlyCommand(): Command {
  const cmd = command('readonly', 'stop writes of mapped tables, or let them go on; returns when it is in force everywhere')
    .addArgument(new Argument('<state>').choices(['on', 'off']))
    .option('--slots <range>', 'only slots A-B of 0-4095')
  return handled(cmd, async (context: CommandContext, state: string, flags: { slots?: string }): Promise<ExitCode> => {
    const slots = flags.slots === undefined ? null : slotRange(flags.slots)
    const workspace = await openWorkspace(context.configPath, context.env)
    try {
      if (state === 'off' && (await createJobs(workspace.session).hold('read-only', 'held by `switchback readonly off`')).orders > 0)
        context.out.line('The rollback that kept writes off is held; what has moved stays.')
      const job = await placeOrder(
        workspace.session,
        { kind: 'read_only', on: state === 'on', slots },
        ({ step }) => context.out.progress(step ?? 'waiting for the controller'),
        context.signal,
      )
      if (job.state !== 'done') throw new SwitchbackError('JOB_FAILED', { because: String(job.result?.['because'] ?? job.state) })
      context.out.line(
        state === 'on' ? `Writes are refused since epoch ${String(job.result!['epoch'])}; reads go on.` : 'Writes are accepted again.',
      )
      context.out.result({ ok: true, readOnly: state === 'on', ...job.result })
      return 0
    } finally {
      await workspace.close()
    }
  })
}
