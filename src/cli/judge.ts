// Promises: `switchback judge`: what the judge of this move said (judge-verdicts.ts); and, without a database or a configuration, the judge over
// a team's own history (`backtest`) and over the evidence of a verdict (`recheck`): what live would have done, by the same code.
import { Command } from 'commander'
import { Backtest } from '../app/backtest.ts'
import { TraceReader, type TraceTotals, traceSeconds } from '../app/judge-trace.ts'
import { openTextFile } from '../app/trace-file.ts'
import { writeNamedFile } from '../app/write-file.ts'
import { JUDGE_DEFAULTS } from '../canary/judge.ts'
import { recheck } from '../canary/recording.ts'
import { SwitchbackError } from '../model/errors.ts'
import { type CommandContext, command, handled } from './command.ts'
import { verdictCommands } from './judge-verdicts.ts'
import { decimalNumber } from './numbers.ts'
import type { ExitCode } from './output.ts'
import { tellVerdict } from './tell-verdict.ts'

/** With more lines skipped, what was judged may be another traffic than there was. */
const SKIPPED_SHARE_MAX = 0.01
const SLO_MAX_MS = 3_600_000
/** A recorder's files have a few megabytes. */
const EVIDENCE_CHARACTERS_MAX = 1 << 28

interface BacktestFlags {
  readonly sloMs?: number
  readonly evidence?: string
}

export function judgeCommand(): Command {
  const cmd = new Command('judge').description('what the judge said of this move, or makes of a history, or of the evidence of a verdict')
  for (const one of verdictCommands()) cmd.addCommand(one)
  const test = command('backtest', 'judge a trace of requests, a JSON line each, plain or gzip: what would have been done, and when')
    .argument('<trace>', 'the file')
    .option('--slo-ms <ms>', 'latency that is no regression, however much faster PostgreSQL is', decimalNumber(0.001, SLO_MAX_MS))
    .option('--evidence <file>', 'write the evidence of a rollback here, for `judge recheck`')
  cmd.addCommand(handled(test, backtest))
  const again = command('recheck', 'judge recorded evidence again: the same verdict, or not').argument('<evidence>', 'the file')
  cmd.addCommand(handled(again, recheckFile))
  return cmd
}

async function backtest(context: CommandContext, file: string, flags: BacktestFlags): Promise<ExitCode> {
  const { out, signal } = context
  const reader = new TraceReader({ file })
  const { texts, torn } = openTextFile(file, signal)
  const run = new Backtest({ ...JUDGE_DEFAULTS, sloMs: flags.sloMs ?? null })
  let startMs: number | null = null
  try {
    for await (const second of traceSeconds(reader, texts, torn)) {
      startMs ??= second.fromMs
      for (const verdict of run.second(second)) out.line(tellVerdict(verdict, startMs))
      out.progress(`${reader.totals().requests} requests`)
    }
  } catch (error) {
    if (signal.aborted) throw new SwitchbackError('INTERRUPTED_READING', { file })
    throw error
  }
  const totals = reader.totals()
  const evidence = run.evidence()
  if (flags.evidence !== undefined && evidence !== null) {
    writeNamedFile(flags.evidence, evidence, { left: 'The trace was judged.' })
    out.line(`The evidence is in ${flags.evidence}.`)
  }
  const doubts = doubtsOf(run, totals)
  const { requests, byArm, spanMs, skipped } = totals
  out.line(
    `${requests} requests judged (${byArm.source} of PostgreSQL, ${byArm.target} of the target) over ${Math.round(spanMs / 1_000)} s.`,
  )
  for (const [why, count] of Object.entries(skipped))
    if (count > 0) out.line(`Skipped: ${count} ${count === 1 ? 'line' : 'lines'}, ${SKIPPED[why as keyof typeof skipped]}.`)
  const rolledBack = run.verdicts.some(({ act }) => act === 'rollback')
  if (!rolledBack) out.line('The traffic would have stayed where it was: no rollback.')
  for (const doubt of doubts) out.line(`But ${doubt}.`)
  out.result({ ok: !rolledBack && doubts.length === 0, ...totals, verdicts: run.verdicts, inconclusive: doubts })
  return rolledBack ? 1 : doubts.length > 0 ? 3 : 0
}

const SKIPPED: Readonly<Record<keyof TraceTotals['skipped'], string>> = {
  notJson: 'no JSON object',
  invalid: 'a field is missing, or a time or latency is negative or no number',
  late: 'more than a minute older than a line before',
  torn: 'the file ends in the middle',
}

/** Why no rollback is not the same as all was well (INV-10). */
function doubtsOf(run: Backtest, { requests, lines, byArm }: TraceTotals): string[] {
  const doubts: string[] = []
  if (byArm.target === 0) doubts.push('no request was of the target: there was no canary to judge')
  if (byArm.source === 0) doubts.push('no request was of PostgreSQL: there was nothing to compare with')
  if (doubts.length === 0 && !run.judged) doubts.push(`no latency was judged: ${run.holds[0] ?? 'the trace is too short'}`)
  if (lines - requests > SKIPPED_SHARE_MAX * lines) doubts.push(`${lines - requests} of ${lines} lines were skipped`)
  return doubts
}

async function recheckFile({ out, signal }: CommandContext, file: string): Promise<ExitCode> {
  let text = ''
  const { texts } = openTextFile(file, signal)
  for await (const part of texts) {
    text += part
    if (text.length > EVIDENCE_CHARACTERS_MAX)
      throw new SwitchbackError('FILE_UNREADABLE', { file, reason: `it has more than ${EVIDENCE_CHARACTERS_MAX} characters` })
  }
  const { spans, recorded, again, same } = recheck(file, text)
  const from = recorded.evidence.window.fromMs
  out.line(`Recorded: ${tellVerdict(recorded, from)}`)
  out.line(again === null ? 'Again: nothing would be done.' : `Again: ${tellVerdict(again, from)}`)
  out.line(same ? `The same verdict from ${spans} spans.` : `NOT the same verdict from ${spans} spans.`)
  out.result({ ok: same, spans, recorded, again })
  return same ? 0 : 1
}
