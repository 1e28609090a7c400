// Promises: `switchback canary start|advance|hold`: keys move to the target, sticky by key, a larger share always containing the
// smaller one.
import { Command } from 'commander'
import { openWorkspace } from '../app/workspace.ts'
import { describeFlip } from '../flip/steps.ts'
import { createJobs } from '../store/jobs.ts'
import { type CommandContext, command, handled } from './command.ts'
import { runMove } from './move.ts'
import type { ExitCode } from './output.ts'
import { selectedSlots } from './slots.ts'

interface MoveFlags {
  readonly slots?: string
  readonly key?: string
  readonly dryRun?: boolean
}

export function canaryCommand(): Command {
  const canary = new Command('canary').description('move keys to the target: start, advance, hold')
  const start = withSelection(command('start', 'the first keys: arms leases and guard, then moves them'))
  const advance = withSelection(command('advance', 'more keys; those that have moved stay moved'))
  canary.addCommand(handled(start, move))
  canary.addCommand(handled(advance, move))
  canary.addCommand(handled(command('hold', 'stop a move to the target after the flip that is under way; what has moved stays'), hold))
  return canary
}

function withSelection(cmd: Command): Command {
  return cmd
    .argument('[share]', 'share of the keys, like 5%')
    .option('--slots <range>', 'slots A-B of 0-4095')
    .option('--key <key>', 'the slot of one key')
    .option('--dry-run', 'print the steps, change nothing')
}

async function move(context: CommandContext, share: string | undefined, flags: MoveFlags): Promise<ExitCode> {
  const selection = { percent: share, slots: flags.slots, key: flags.key }
  if (flags.dryRun) return dryRun(context, selection)
  return runMove(context, (keyType) => ({ kind: 'move', to: 'target', slots: selectedSlots(selection, keyType), readOnlyFirst: false }))
}

async function dryRun(
  context: CommandContext,
  selection: { percent: string | undefined; slots: string | undefined; key: string | undefined },
): Promise<ExitCode> {
  const workspace = await openWorkspace(context.configPath, context.env)
  try {
    const slots = selectedSlots(selection, workspace.mapping.keyType)
    const steps = describeFlip(slots, 'target')
    for (const step of steps) context.out.line(step)
    context.out.result({ ok: true, dryRun: true, slots: slots.length, steps })
    return 0
  } finally {
    await workspace.close()
  }
}

async function hold(context: CommandContext): Promise<ExitCode> {
  const workspace = await openWorkspace(context.configPath, context.env)
  try {
    const held = await createJobs(workspace.session).hold('target', 'held by `switchback canary hold`')
    context.out.line(
      held === 0 ? 'No move to the target was under way.' : 'The move to the target stops before its next flip; what has moved stays.',
    )
    context.out.result({ ok: true, held })
    return 0
  } finally {
    await workspace.close()
  }
}
