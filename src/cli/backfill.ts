// Promises: `switchback backfill`: a consistent copy into the target while writes flow; stopped and resumed at will; and another one,
// by name, after the replication slot was lost.
import type { Command } from 'commander'
import { openSource, openWorkspaceTarget } from '../app/open-parts.ts'
import { type BackfillOutcome, backfillNow } from '../app/run-backfill.ts'
import { openWorkspace } from '../app/workspace.ts'
import type { BackfillProgress } from '../sync/backfill.ts'
import type { SweepProgress } from '../sync/sweep.ts'
import { type CommandContext, command, handled } from './command.ts'
import { wholeNumber } from './numbers.ts'
import { bar, type ExitCode } from './output.ts'

interface Flags {
  readonly workers: number
  readonly maxRowsPerSecond?: number
  readonly again?: boolean
  readonly join?: boolean
}

export function backfillCommand(): Command {
  const cmd = command('backfill', 'copy a consistent snapshot into the target while writes flow; run it again to go on')
    .option('--workers <n>', 'readers, each a connection', wholeNumber(1, 256), 4)
    .option('--max-rows-per-second <n>', 'throttle, for a busy service', wholeNumber(1, 10_000_000))
    .option('--join', 'share the work of a backfill that runs elsewhere')
    .option(
      '--again',
      'when the replication slot is lost: drop it, make a new one, copy everything that PostgreSQL owns once more, and remove from the target what was deleted meanwhile; refused while nothing is wrong',
    )
  return handled(cmd, async (context: CommandContext, flags: Flags): Promise<ExitCode> => {
    const { out, signal } = context
    const workspace = await openWorkspace(context.configPath, context.env)
    const target = await openWorkspaceTarget(workspace, context.env).catch(async (error: unknown) => {
      await workspace.close()
      throw error
    })
    try {
      const done = await backfillNow({
        workspace,
        source: openSource(workspace),
        target,
        workers: flags.workers,
        rowsPerSecondMax: flags.maxRowsPerSecond ?? null,
        again: flags.again === true,
        join: flags.join === true,
        onProgress: (progress) => out.progress(tell(progress)),
        onSweep: (progress) => out.progress(tellSweep(progress)),
        onNote: (text) => out.line(text),
        signal,
      })
      for (const line of tellOutcome(done)) out.line(line)
      out.result({ ok: true, ...done })
      return 0
    } finally {
      await target.close()
      await workspace.close()
    }
  })
}

function tell({ rows, rowsPerSecond, estimatedRows, etaMs }: BackfillProgress): string {
  const eta = etaMs === null ? '' : `, ${Math.ceil(etaMs / 1000)} s left`
  return `${bar(rows, Math.max(rows, estimatedRows ?? 0))} ${rows} rows, ${Math.round(rowsPerSecond)} rows/s${eta}`
}

function tellSweep({ parts, partsDone, rowsSeen, tombstones }: SweepProgress): string {
  return `${bar(partsDone, parts)} ${rowsSeen} rows of the target looked at, ${tombstones} deleted ones removed`
}

function tellOutcome(done: BackfillOutcome): string[] {
  const resumed = done.resumed && !done.joined ? ', going on where an earlier run stopped' : ''
  const copied = `${done.rows} rows copied in ${(done.durationMs / 1000).toFixed(1)} s${resumed}.`
  if (done.joined) return [`${copied} The run that this one joined ends the backfill.`]
  return [
    ...(done.again ? [`${done.tombstones} rows were removed from the target: deleted on PostgreSQL while nobody listened.`] : []),
    `${copied} The controller's forward sync keeps the target up to date from here.`,
    ...(done.again ? ['Compare with `switchback parity --full` before you move more keys.'] : []),
  ]
}
