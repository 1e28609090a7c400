// Promises: `switchback backfill`: a consistent copy into the target while writes flow; stopped and resumed at will.
import type { Command } from 'commander'
import { openSource, openWorkspaceTarget } from '../app/open-parts.ts'
import { backfillNow } from '../app/run-backfill.ts'
import { openWorkspace } from '../app/workspace.ts'
import type { BackfillProgress } from '../sync/backfill.ts'
import { type CommandContext, command, handled } from './command.ts'
import { wholeNumber } from './numbers.ts'
import { bar, type ExitCode } from './output.ts'

interface Flags {
  readonly workers: number
  readonly maxRowsPerSecond?: number
}

export function backfillCommand(): Command {
  const cmd = command('backfill', 'copy a consistent snapshot into the target while writes flow; run it again to go on')
    .option('--workers <n>', 'readers, each a connection', wholeNumber(1, 256), 4)
    .option('--max-rows-per-second <n>', 'throttle, for a busy service', wholeNumber(1, 10_000_000))
  return handled(cmd, async (context: CommandContext, flags: Flags): Promise<ExitCode> => {
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
        onProgress: (progress) => context.out.progress(tell(progress)),
        signal: context.signal,
      })
      context.out.line(
        `${done.rows} rows copied in ${(done.durationMs / 1000).toFixed(1)} s${done.resumed ? ', going on where an earlier run stopped' : ''}. The controller's forward sync keeps the target up to date from here.`,
      )
      context.out.result({ ok: true, ...done })
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
