// Promises: `switchback judge verdicts|report|evidence`: what the judge of this move said, what came of it, and what it was decided by.
import type { RollbackReport } from '../app/judge-report.ts'
import { openWorkspace, type Workspace } from '../app/workspace.ts'
import { writeNamedFile } from '../app/write-file.ts'
import { SwitchbackError } from '../model/errors.ts'
import { listVerdicts, readEvidence, readVerdict, type VerdictRow } from '../store/judging.ts'
import { type CommandContext, command, handled } from './command.ts'
import { wholeNumber } from './numbers.ts'
import type { ExitCode } from './output.ts'
import { tellReport, tellRow } from './tell-judge.ts'

const LISTED_MAX = 1_000
const TOLD_MAX = 20
const ID_MAX = 1e15

export function verdictCommands() {
  const list = command('verdicts', 'what the judge said, the newest first')
  const one = command('report', 'what a rollback by verdict was for, how long it took, and whether a write was lost').argument(
    '[id]',
    'the verdict; the last rollback by default',
    wholeNumber(1, ID_MAX),
  )
  const evidence = command('evidence', 'what a rollback was decided by, as a file that `judge recheck` takes')
    .argument('<id>', 'the verdict', wholeNumber(1, ID_MAX))
    .requiredOption('--export <file>', 'write it here')
  return [handled(list, verdicts), handled(one, report), handled(evidence, exportEvidence)]
}

async function verdicts({ configPath, env, out }: CommandContext): Promise<ExitCode> {
  return withWorkspace(configPath, env, async ({ session }) => {
    const rows = await listVerdicts(session, LISTED_MAX)
    for (const row of rows.slice(0, TOLD_MAX)) out.line(tellRow(row))
    if (rows.length > TOLD_MAX) out.line(`... and ${rows.length - TOLD_MAX} more; --json lists up to ${LISTED_MAX}.`)
    if (rows.length === 0) out.line('The judge has said nothing yet.')
    out.result({ ok: true, verdicts: rows })
    return 0
  })
}

async function report({ configPath, env, out }: CommandContext, id: number | undefined): Promise<ExitCode> {
  return withWorkspace(configPath, env, async ({ session }) => {
    const row = await readVerdict(session, id ?? null)
    if (row === null) throw new SwitchbackError('VERDICT_UNKNOWN', { what: id === undefined ? 'rollback by verdict' : `verdict ${id}` })
    const told = reportOf(row)
    if (row.verdict.act === 'rollback') for (const line of tellReport(row, told)) out.line(line)
    else out.line(tellRow(row))
    if (row.hasEvidence) out.line(`Evidence: \`switchback judge evidence ${row.id} --export FILE\`.`)
    const { report: _, ...verdict } = row
    const ok = row.verdict.act !== 'rollback' || (told?.whole === true && told.writesLost.known === 0)
    out.result({ ok, ...verdict, report: told })
    return ok ? 0 : told === null || !told.whole ? 3 : 1
  })
}

function reportOf({ report: told }: VerdictRow): RollbackReport | null {
  return told as RollbackReport | null
}

async function exportEvidence({ configPath, env, out }: CommandContext, id: number, flags: { readonly export: string }): Promise<ExitCode> {
  return withWorkspace(configPath, env, async ({ session }) => {
    if ((await readVerdict(session, id)) === null) throw new SwitchbackError('VERDICT_UNKNOWN', { what: `verdict ${id}` })
    const text = await readEvidence(session, id)
    if (text === null) throw new SwitchbackError('VERDICT_WITHOUT_EVIDENCE', { verdict: id })
    writeNamedFile(flags.export, text, { left: 'The evidence stands in PostgreSQL as before.' })
    out.line(`The evidence of verdict ${id} is in ${flags.export}: \`switchback judge recheck ${flags.export}\`.`)
    out.result({ ok: true, verdict: id, file: flags.export })
    return 0
  })
}

async function withWorkspace(
  configPath: string | undefined,
  env: NodeJS.ProcessEnv,
  work: (workspace: Workspace) => Promise<ExitCode>,
): Promise<ExitCode> {
  const workspace = await openWorkspace(configPath, env)
  try {
    return await work(workspace)
  } finally {
    await workspace.close()
  }
}
