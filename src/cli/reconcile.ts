// Promises: `switchback reconcile`: after a failover, what PostgreSQL and the target say of each other, before service goes on. It changes
// nothing without --adopt and the plan that it printed.
import type { Command } from 'commander'
import { openWorkspaceTarget } from '../app/open-parts.ts'
import { adopt, type Reconciliation, reconcile } from '../app/reconcile.ts'
import { openWorkspace } from '../app/workspace.ts'
import { systemClock } from '../lib/clock.ts'
import type { FindingKind } from '../model/reconcile.ts'
import type { ControlItem } from '../model/target.ts'
import { type CommandContext, command, handled } from './command.ts'
import type { ExitCode, Output } from './output.ts'

interface Flags {
  readonly adopt?: string
}

export function reconcileCommand(): Command {
  const cmd = command(
    'reconcile',
    'after a failover: what PostgreSQL and the target say of each other; changes nothing without --adopt',
  ).option(
    '--adopt <plan>',
    'make this PostgreSQL the owner of the target, as the plan that was printed; the one before must have ended for good',
  )
  return handled(cmd, async (context: CommandContext, flags: Flags): Promise<ExitCode> => {
    const workspace = await openWorkspace(context.configPath, context.env)
    try {
      const target = await openWorkspaceTarget(workspace, context.env)
      try {
        if (flags.adopt === undefined) return show(context.out, await reconcile(workspace, target, context.signal))
        const onStep = (step: string) => context.out.progress(step)
        const { out, signal } = context
        const adopted = await adopt({ workspace, target, plan: flags.adopt, clock: systemClock, onStep, signal })
        out.line(
          adopted === null
            ? 'The target belongs to this PostgreSQL already.'
            : `The target belongs to this PostgreSQL now (${identity(adopted)}). Gateways and controllers go on by themselves. Parity is invalid until \`switchback backfill --again\` has run.`,
        )
        out.result({ ok: true, adopted: adopted !== null, item: adopted })
        return 0
      } finally {
        await target.close()
      }
    } finally {
      await workspace.close()
    }
  })
}

function show(out: Output, found: Reconciliation): ExitCode {
  const differs = found.differences.length > 0
  out.line(`PostgreSQL:  ${identity(found.here)}`)
  out.line(`Target:      ${found.item === null ? 'belongs to nobody: no key has moved yet' : `belongs to ${identity(found.item)}`}`)
  if (found.forwardStopped !== null) out.line(`Forward sync: stopped, ${found.forwardStopped}. It needs \`switchback backfill --again\`.`)
  if (!differs) out.line('Nothing differs.')
  for (const difference of found.differences) out.line(`Differs: ${difference}.`)
  if (found.evidence !== null) {
    const { entriesNotApplied, found: counts, named } = found.evidence
    out.line(`Transactions on the target that are not applied here yet: ${entriesNotApplied}. The reverse sync applies them.`)
    for (const [kind, n] of Object.entries(counts) as [FindingKind, number][]) {
      if (n === 0) continue
      out.line(`${MEANING[kind]}: ${n} keys.`)
      for (const one of named.filter(({ what }) => what === kind))
        out.line(`  slot ${one.slot}, key ${one.key} (here the ${one.ownerHere}'s)`)
    }
    if (!found.lostWritesLookedFor)
      out.line(
        'Not looked for: writes that PostgreSQL had acknowledged and this one lacks. The role may not read where the timelines part.',
      )
  }
  for (const reason of found.reasonsAgainst) out.line(`Must not be adopted: ${reason}.`)
  if (found.plan !== null) {
    out.line(
      'Nothing that was acknowledged on the target is lost if this PostgreSQL becomes its owner. When the one before has ended for good, and',
    )
    out.line(`cannot come back while gateways reach it: switchback reconcile --adopt ${found.plan}`)
  }
  out.result({ ok: !differs, ...found })
  return differs ? 1 : 0
}

const MEANING: Record<FindingKind, string> = {
  'tenure unknown': 'Written on the target after a flip that this PostgreSQL does not have',
  'row unknown': 'Rows on the target newer than their owner can have written by what this PostgreSQL knows',
  'entry gone': 'Written on the target, not applied here, and in no outbox that this PostgreSQL knows of',
  'write lost': 'Acknowledged by PostgreSQL and sent to the target, and lost here; the next backfill takes them off the target',
}

function identity(item: ControlItem): string {
  return `system ${item.systemIdentifier}, timeline ${item.timeline}, epoch ${item.epoch}`
}
