// Promises: `switchback canary run|start|advance|hold`: keys move to the target, sticky by key, a larger share always containing the
// smaller one.
import { Command } from 'commander'
import { refuseWhileRamping } from '../app/follow-ramp.ts'
import { openWorkspace } from '../app/workspace.ts'
import { describeFlip } from '../flip/steps.ts'
import { createJobs } from '../store/jobs.ts'
import { runRamp } from './canary-run.ts'
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
  const canary = new Command('canary').description('move keys to the target: run, start, advance, hold')
  const run = command('run', 'a ramp: step by step, each when the judge promotes the one before; run it again to follow it')
    .argument('[plan]', 'steps and bake times like 1%:10m,5%:10m,25%:30m,100%, or a JSON file; the configuration has the default')
    .option('--dry-run', "print each step's slots and profile, change nothing")
  canary.addCommand(handled(run, runRamp))
  const start = withSelection(command('start', 'the first keys: arms leases and guard, then moves them'))
  const advance = withSelection(command('advance', 'more keys; those that have moved stay moved'))
  canary.addCommand(handled(start, move))
  canary.addCommand(handled(advance, move))
  canary.addCommand(
    handled(command('hold', 'stop a ramp, or a move to the target after the flip that is under way; what has moved stays'), hold),
  )
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
  return runMove(context, async ({ session, mapping: { keyType } }) => {
    await refuseWhileRamping(session)
    return { kind: 'move', to: 'target', slots: selectedSlots(selection, keyType), readOnlyFirst: false }
  })
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
    const { orders, ramp } = await createJobs(workspace.session).hold('target', 'held by `switchback canary hold`')
    if (ramp !== null) context.out.line(`Ramp ${ramp} is stopped; \`switchback canary run\` goes on from what has moved.`)
    if (orders > 0) context.out.line('The move to the target stops before its next flip; what has moved stays.')
    if (ramp === null && orders === 0) context.out.line('No ramp and no move to the target was under way.')
    context.out.result({ ok: true, held: orders, ramp })
    return 0
  } finally {
    await workspace.close()
  }
}
