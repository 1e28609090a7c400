// Promises: `switchback parity`: both stores compared while writes flow, differences down to the cell.
import type { Command } from 'commander'
import { checkInvariants } from '../app/check-invariants.ts'
import { openSource, openWorkspaceTarget } from '../app/open-parts.ts'
import { parityNow } from '../app/run-parity.ts'
import { repairNow } from '../app/run-repair.ts'
import { openWorkspace, type Workspace } from '../app/workspace.ts'
import { writeNamedFile } from '../app/write-file.ts'
import type { Target } from '../model/target.ts'
import { planRepair, type RepairOutcome, type RepairStep } from '../parity/repair.ts'
import type { Difference } from '../parity/settle.ts'
import { newestViolation, settleViolations } from '../store/violations.ts'
import { type CommandContext, command, handled } from './command.ts'
import { bar, type ExitCode } from './output.ts'

interface Flags {
  readonly full?: boolean
  readonly certificate?: string
  readonly repair?: boolean
  readonly apply?: boolean
}

/** Of the key ranges, without --full. */
const SAMPLE_SHARE = 0.1
const TOLD_MAX = 20

export function parityCommand(): Command {
  const cmd = command('parity', 'compare both stores while writes flow; a tenth of the key ranges, another one each time')
    .option('--full', 'compare everything and sign a certificate')
    .option('--certificate <file>', 'write the certificate here (with --full)')
    .option('--repair', "compare everything and print how each difference would be repaired from the row's owner; changes nothing")
    .option('--apply', 'with --repair: do it, and compare again')
  return handled(cmd, async (context: CommandContext, flags: Flags): Promise<ExitCode> => {
    const workspace = await openWorkspace(context.configPath, context.env)
    const target = await openWorkspaceTarget(workspace, context.env).catch(async (error: unknown) => {
      await workspace.close()
      throw error
    })
    try {
      const compare = () =>
        parityNow({
          workspace,
          source: openSource(workspace),
          target,
          share: flags.full || flags.repair ? 1 : SAMPLE_SHARE,
          certificate: flags.full === true && workspace.config.signingKeyFile !== undefined,
          onProgress: ({ table, step, rows, estimatedRows }) => context.out.progress(`${bar(rows, estimatedRows)} ${table}: ${step}`),
          signal: context.signal,
        })
      let { report, certificate } = await compare()
      let repair: Repair | null = null
      if (flags.repair) {
        repair = await repairOf(context, workspace, target, report.listed, flags.apply === true)
        if (repair.applied !== null || flags.apply) {
          const newest = await newestViolation(workspace.session)
          ;({ report, certificate } = await compare())
          if (report.differences === 0 && report.notChecked.length === 0) await settleViolations(workspace.session, newest)
        }
      }
      const invariants = await checkInvariants(workspace)
      const rowsNotChecked = report.notChecked.reduce((sum, { rows }) => sum + rows, 0)
      context.out.line(`${report.rowsCompared} rows compared, ${report.differences} differences, ${rowsNotChecked} not checked.`)
      for (const difference of report.listed.slice(0, TOLD_MAX)) context.out.line(`  ${tell(difference)}`)
      if (report.listed.length > TOLD_MAX) context.out.line(`  ... and ${report.differences - TOLD_MAX} more; --json lists them.`)
      for (const { table, rows, because } of report.notChecked) context.out.line(`  not checked: ${rows} rows of ${table}: ${because}`)
      for (const { name, violations } of invariants)
        context.out.line(`Invariant "${name}": ${violations === 0 ? 'holds' : `VIOLATED by ${violations} aggregates`}.`)
      if (certificate !== null && flags.certificate !== undefined) {
        writeNamedFile(flags.certificate, `${JSON.stringify(certificate, null, 2)}\n`, {
          left: 'The stores were compared and not changed.',
        })
        context.out.line(`The certificate is in ${flags.certificate}.`)
      }
      const broken = invariants.some(({ violations }) => violations > 0)
      const ok = report.differences === 0 && !broken
      context.out.result({
        ok: ok && rowsNotChecked === 0,
        ...report,
        rowsNotChecked,
        invariants,
        certificate,
        ...(repair === null ? {} : { repair }),
      })
      return !ok ? 1 : rowsNotChecked > 0 ? 3 : 0
    } finally {
      await target.close()
      await workspace.close()
    }
  })
}

interface Repair {
  readonly plan: readonly RepairStep[]
  /** Null: only planned. */
  readonly applied: RepairOutcome | null
}

async function repairOf(
  context: CommandContext,
  workspace: Workspace,
  target: Target,
  differences: readonly Difference[],
  apply: boolean,
): Promise<Repair> {
  const plan = planRepair(differences)
  for (const { table, key, clustering, owner, act, how } of plan.slice(0, TOLD_MAX))
    context.out.line(`  ${apply ? '' : 'would '}${act}: ${table} ${[key, ...clustering].join('/')}, owned by the ${owner}; ${how}`)
  if (plan.length > TOLD_MAX) context.out.line(`  ... and ${plan.length - TOLD_MAX} more.`)
  if (!apply || plan.length === 0) {
    context.out.line(plan.length === 0 ? 'There is nothing to repair.' : 'Nothing was changed. Add --apply to do it.')
    return { plan, applied: null }
  }
  const applied = await repairNow({
    workspace,
    target,
    steps: plan,
    onProgress: (done, total) => context.out.progress(`${bar(done, total)} repairing`),
    signal: context.signal,
  })
  context.out.line(`${applied.repaired} rows repaired, ${applied.left.length} left as they were.`)
  for (const { table, key, clustering, because } of applied.left.slice(0, TOLD_MAX))
    context.out.line(`  left: ${table} ${[key, ...clustering].join('/')}: ${because}`)
  return { plan, applied }
}

function tell({ table, key, clustering, kind, owner, cells }: Difference): string {
  const row = `${table} ${[key, ...clustering].join('/')} (owned by the ${owner})`
  if (cells.length === 0) return `${row}: ${kind}`
  return `${row}: ${cells.map((cell) => `${cell.column} is ${show(cell.source)} on PostgreSQL, ${show(cell.target)} on the target`).join('; ')}`
}

function show(value: string | null): string {
  return value === null ? 'null' : value.length > 60 ? `"${value.slice(0, 60)}..."` : `"${value}"`
}
