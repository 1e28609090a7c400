// Promises: `switchback rollback`: keys return to PostgreSQL by the reverse sync. A ramp is stopped and a move to the target held first.
import type { Command } from 'commander'
import { READ_ONLY_FIRST, READ_ONLY_LAST } from '../app/read-only.ts'
import { openWorkspace } from '../app/workspace.ts'
import { describeFlip } from '../flip/steps.ts'
import { HASH_SLOTS } from '../model/key.ts'
import { createJobs } from '../store/jobs.ts'
import { type CommandContext, command, handled } from './command.ts'
import { runMove } from './move.ts'
import type { ExitCode } from './output.ts'
import { slotRange } from './slots.ts'

interface RollbackFlags {
  readonly slots?: string
  readonly readOnly?: boolean
  readonly dryRun?: boolean
}

export function rollbackCommand(): Command {
  const cmd = command('rollback', 'return keys to PostgreSQL, all or some, without losing an acknowledged write')
    .option('--slots <range>', 'only slots A-B of 0-4095')
    .option('--read-only', 'stop writes first, and until the backlog is applied; for a reverse sync that is far behind')
    .option('--dry-run', 'print the steps, change nothing')
  return handled(cmd, rollback)
}

async function rollback(context: CommandContext, flags: RollbackFlags): Promise<ExitCode> {
  const slots = slotRange(flags.slots ?? `0-${HASH_SLOTS - 1}`)
  if (flags.dryRun) {
    const flip = describeFlip(slots, 'source')
    const steps = flags.readOnly === true ? [...READ_ONLY_FIRST, ...flip, READ_ONLY_LAST] : flip
    for (const step of steps) context.out.line(step)
    context.out.result({ ok: true, dryRun: true, steps })
    return 0
  }
  await holdMovesOut(context)
  return runMove(context, () => Promise.resolve({ kind: 'move', to: 'source', slots, readOnlyFirst: flags.readOnly === true }))
}

async function holdMovesOut(context: CommandContext): Promise<void> {
  const workspace = await openWorkspace(context.configPath, context.env)
  try {
    const { ramp } = await createJobs(workspace.session).hold('target', 'held by `switchback rollback`')
    if (ramp !== null) context.out.line(`Ramp ${ramp} is stopped.`)
  } finally {
    await workspace.close()
  }
}
