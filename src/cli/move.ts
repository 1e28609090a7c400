// Promises: a move as its command shows it: progress by slots, then the flips and their pauses, in sentences or as JSON.

import { placeOrder } from '../app/place-order.ts'
import { openWorkspace, type Workspace } from '../app/workspace.ts'
import type { FlipParked } from '../model/control.ts'
import { SwitchbackError } from '../model/errors.ts'
import type { JobArguments } from '../store/jobs.ts'
import type { CommandContext } from './command.ts'
import { bar, type ExitCode } from './output.ts'

export interface FlipSummary {
  readonly id: string
  readonly to: string
  readonly slots: number
  readonly windowMs: number
  readonly parked: FlipParked | null
}

export interface MoveResult {
  readonly flips: readonly FlipSummary[]
  readonly held: readonly { readonly slot: number; readonly because: string }[]
  readonly durationMs: number
  /** Of a rollback with --read-only. */
  readonly readOnly: { readonly entriesApplied: number; readonly backlogMs: number; readonly totalMs: number } | null
  readonly because?: string
}

/** Places the order that `make` gives, and follows it. */
export async function runMove(
  context: CommandContext,
  make: (workspace: Workspace) => Promise<Extract<JobArguments, { kind: 'move' }>>,
): Promise<ExitCode> {
  const workspace = await openWorkspace(context.configPath, context.env)
  try {
    const order = await make(workspace)
    const job = await placeOrder(
      workspace.session,
      order,
      ({ slotsDone = 0, slotsTotal = order.slots.length, step = 'waiting for the controller' }) =>
        context.out.progress(`${bar(slotsDone, slotsTotal)} ${slotsDone} of ${slotsTotal} slots, ${step}`),
      context.signal,
    )
    const result = job.result as unknown as MoveResult
    if (job.state !== 'done') throw new SwitchbackError('JOB_FAILED', { because: result?.because ?? job.state })
    tellMove(context, order.to, result)
    context.out.result({ ok: result.held.length === 0, to: order.to, ...result })
    return result.held.length === 0 ? 0 : 1
  } finally {
    await workspace.close()
  }
}

function tellMove({ out }: CommandContext, to: string, result: MoveResult): void {
  const slots = result.flips.reduce((sum, flip) => sum + flip.slots, 0)
  const longest = Math.max(0, ...result.flips.map((flip) => flip.windowMs))
  out.line(
    `${slots} slots are now owned by the ${to === 'source' ? 'source (PostgreSQL)' : 'target'}: ${result.flips.length} flips in ${result.durationMs} ms, the longest window ${Math.round(longest)} ms.`,
  )
  if (result.readOnly !== null)
    out.line(
      `Writes were refused for ${result.readOnly.totalMs} ms, of which ${result.readOnly.backlogMs} ms for ${result.readOnly.entriesApplied} transactions that PostgreSQL did not have yet.`,
    )
  if (result.flips.length > 0) out.line(parkedSentence(result.flips.map((flip) => flip.parked)))
  for (const { slot, because } of result.held) out.line(`Slot ${slot} stays where it is: ${because}.`)
}

/** What the gateways saw of flips, in a sentence. */
export function parkedSentence(flips: readonly (FlipParked | null)[]): string {
  const told = flips.filter((parked) => parked !== null)
  if (told.length === 0) return 'No gateway has told how long it held statements back.'
  const longest = (of: (parked: FlipParked) => number) => Math.max(...told.map(of))
  const statements = told.reduce((sum, parked) => sum + parked.statements, 0)
  const unknown = flips.length - told.length
  const times = `the longest ${longest((p) => p.maxMs)} ms, half of them at most ${longest((p) => p.p50Ms)} ms, 99 % at most ${longest((p) => p.p99Ms)} ms`
  return `Gateways held ${statements} statements back${statements === 0 ? '' : `: ${times}`}.${unknown > 0 ? ` Of ${unknown} flips none has told.` : ''}`
}
