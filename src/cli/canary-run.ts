// Promises: `switchback canary run [PLAN]`: a ramp is given to the controller and followed; with --dry-run the slots that it would choose.
import { followRamp, orderRamp, previewRamp } from '../app/follow-ramp.ts'
import { judgeSettings } from '../app/judge-settings.ts'
import type { RampRow } from '../app/ramp-decision.ts'
import { openWorkspace } from '../app/workspace.ts'
import { SwitchbackError } from '../model/errors.ts'
import type { CommandContext } from './command.ts'
import type { ExitCode } from './output.ts'
import { rampPlan } from './ramp-plan.ts'
import { changesOf, limitLines, planLines, previewResult, resultOf, standingOf } from './ramp-told.ts'

export async function runRamp(context: CommandContext, plan: string | undefined, flags: { readonly dryRun?: boolean }): Promise<ExitCode> {
  const workspace = await openWorkspace(context.configPath, context.env)
  const { out, signal } = context
  try {
    const settings = rampPlan(plan, workspace.config)
    const { enabled, config: limits } = judgeSettings(workspace.config)
    if (flags.dryRun === true) {
      const preview = await previewRamp(workspace.session, settings)
      out.line(
        preview.requests === null
          ? 'Basis: slot order. No controller has said lately what the traffic is: gateways measure it once they are armed, which `canary run` does first.'
          : `Basis: profile of ${preview.requests} requests, seen ${Math.round(preview.profileAgeMs! / 1_000)} s ago.`,
      )
      if (preview.moved > 0) out.line(`${preview.moved} slots are on the target already.`)
      for (const line of [...planLines(preview.plan, { withSlots: true }), ...limitLines(limits)]) out.line(line)
      const { requests, profileAgeMs, moved } = preview
      out.result({ ok: true, dryRun: true, requests, profileAgeMs, moved, ...previewResult(preview.plan, limits) })
      return 0
    }
    if (!enabled) throw new SwitchbackError('RAMP_WITHOUT_JUDGE', {})
    const id = await orderRamp(workspace.session, settings, plan !== undefined)
    for (const line of limitLines(limits)) out.line(line)
    let before: RampRow | null = null
    const ramp = await followRamp(
      workspace.session,
      id,
      (now) => {
        for (const line of changesOf(before, now)) out.line(line)
        if (!now.ended) out.progress(standingOf(now))
        before = now
      },
      signal,
    )
    const result = resultOf(ramp)
    out.result(result)
    return result['ok'] === true ? 0 : 1
  } finally {
    await workspace.close()
  }
}
