// Promises: `switchback status`: who owns what, who serves, how far the syncs are, what is under way, what is in the way.
import type { Command } from 'commander'
import { slotNameOf } from '../app/names.ts'
import { type FlipEnded, readStatus, type Status } from '../app/status.ts'
import { openWorkspace } from '../app/workspace.ts'
import { systemClock } from '../lib/clock.ts'
import { hasCode } from '../model/errors.ts'
import { type CommandContext, command, handled } from './command.ts'
import { parkedSentence } from './move.ts'
import type { ExitCode } from './output.ts'
import { tellLost, tellStanding } from './tell-judge.ts'

const WATCH_MS = 1_000

export function statusCommand(): Command {
  const cmd = command('status', 'who owns what, who serves, how far the syncs are, what the judge sees').option(
    '--watch',
    'again each second, until Ctrl-C; with --json an object a line',
  )
  return handled(cmd, async (context: CommandContext, flags: { readonly watch?: boolean }): Promise<ExitCode> => {
    const workspace = await openWorkspace(context.configPath, context.env)
    try {
      const read = () => readStatus(workspace.session, slotNameOf(workspace.config.migration), workspace.config.source)
      if (flags.watch) return await watch(context, read)
      const status = await read()
      for (const line of tellStatus(status)) context.out.line(line)
      context.out.result({ ...status })
      return 0
    } finally {
      await workspace.close()
    }
  })
}

/** What PostgreSQL does not answer for a while is said, and asked for again. */
async function watch({ out, signal }: CommandContext, read: () => Promise<Status>): Promise<ExitCode> {
  while (!signal.aborted) {
    const nextMs = systemClock.monotonicMs() + WATCH_MS
    try {
      const status = await read()
      out.screen([new Date(systemClock.nowMs()).toISOString(), ...tellStatus(status)])
      out.result({ ...status })
    } catch (error) {
      if (!hasCode(error, 'CONTROL_UNREACHABLE')) throw error
      out.error(error)
    }
    await systemClock.sleep(nextMs - systemClock.monotonicMs(), signal)
  }
  return 0
}

function tellStatus(status: Status): string[] {
  const { slots, leader, slot, backfill, syncs } = status
  return [
    `Keys: ${share(slots.source)} on PostgreSQL, ${share(slots.target)} on the target${slots.inFlip > 0 ? `, ${slots.inFlip} slots in flip` : ''}${slots.readOnly > 0 ? `, ${slots.readOnly} slots read-only` : ''}. Epoch ${status.epoch}.`,
    leader === null
      ? 'Controller: none has led yet.'
      : `Controller: ${leader.name} leads (token ${leader.token})${syncs === null ? ', but has said nothing lately' : ''}.`,
    status.gateways.length === 0
      ? 'Gateways: none holds a lease.'
      : `Gateways: ${status.gateways.map((gateway) => `${gateway.gateway} (acked ${gateway.ackedEpoch})`).join(', ')}.`,
    backfill.state === 'none'
      ? 'Backfill: not begun.'
      : `${backfill.again ? 'Backfill, not the first' : 'Backfill'}: ${backfill.state}, ${backfill.rows} rows, ${backfill.rangesDone} of ${backfill.ranges} ranges.`,
    slot === null
      ? 'Replication slot: none.'
      : `Replication slot: ${slot.walStatus}, ${slot.active ? 'in use' : 'not in use'}, ${slot.lagBytes} bytes behind.`,
    ...(slot === null || slot.walBudget === 'within'
      ? []
      : [
          `WAL ${slot.walBudget} its budget: PostgreSQL keeps ${slot.retainedBytes} bytes for the forward sync, of ${slot.walBudgetBytes} (source.walBudgetBytes).`,
        ]),
    ...(syncs === null
      ? []
      : [
          `Forward sync: ${backfill.because === null ? `${text(syncs['forwardLagMs'])} ms behind` : `STOPPED, ${backfill.because}`}. Reverse sync: ${text(syncs['reverseLagMs'])} ms behind, ${text(syncs['reverseUnsettled'])} entries not settled.`,
        ]),
    ...tellJudge(status.judge),
    ...(status.judge.standing?.lost ?? []).map(tellLost),
    ...status.jobs.map((job) => `Job ${job.id}: ${job.order}, ${job.state}.`),
    ...(status.ramp === null ? [] : [rampLine(status.ramp)]),
    ...status.openFlips.map((flip) => `Flip ${flip.id} to the ${flip.to}: ${flip.state}, ${flip.slots} slots.`),
    ...status.lastFlips.slice(0, 1).map(lastFlip),
    ...status.poison.map(
      (p) => `Poison: key ${p.key} (slot ${p.slot}) ${p.retrying ? 'is being tried again' : 'is halted'}: ${p.sqlstate} ${p.message}`,
    ),
    ...(status.poison.length > 0 ? ['Mend the cause of each in PostgreSQL, then `switchback poison retry KEY`.'] : []),
    ...(status.debts.length > 0
      ? [
          `Debt: ${status.debts.length} slots went back while the target did not answer; their rows are compared, and put there again where they differ, before the next move to it.`,
        ]
      : []),
    ...(status.violations > 0 ? [`VIOLATIONS: ${status.violations} writes reached PostgreSQL while the target owned their keys.`] : []),
    ...(status.frozenSlots.length > 0
      ? [`Frozen, not to go to the target: slots ${status.frozenSlots.map(({ slot, lsn }) => `${slot} (since ${lsn})`).join(', ')}.`]
      : []),
    ...status.standbysStruckOff.map(
      ({ name, at }) =>
        `Standby ${name} was silent and is struck off since ${at}: flips do not wait for it. Do not promote it before it is back.`,
    ),
    status.readyForCanary ? 'Ready for a canary.' : `Not ready for a canary: ${status.notReadyBecause.join(' ')}`,
  ]
}

function rampLine({ id, state, step, steps, percent, heldBecause, because }: NonNullable<Status['ramp']>): string {
  const at = step === 0 ? '' : `, step ${step} of ${steps} (${percent} %)`
  const why = because === null ? heldBecause.join('; ') : because
  return `Ramp ${id}: ${state}${at}${why === '' ? '' : `: ${why}`}.`
}

function tellJudge({ standing, rolledBack }: Status['judge']): string[] {
  if (rolledBack !== null) {
    const { verdict, tMs, detector, about, job } = rolledBack
    const said = `${new Date(tMs).toISOString()}: ${detector}${about === null ? '' : ` of ${about}`}`
    if (job === null) return [`Verdict ${verdict} at ${said}. TOO LATE: the end of the move had been announced, and nothing goes back.`]
    return [`ROLLED BACK by verdict ${verdict} at ${said}. Off until a person starts the canary again; see \`switchback judge report\`.`]
  }
  return standing === null || standing.step === 0 ? [] : tellStanding(standing)
}

function lastFlip({ to, state, slots, startedAt, parked }: FlipEnded): string {
  return `Last flip: ${slots} slots to the ${to}, ${state}, begun at ${startedAt}. ${parkedSentence([parked])}`
}

function share(slots: number): string {
  return `${((slots / 4096) * 100).toFixed(slots % 41 === 0 ? 0 : 1)} %`
}

function text(value: unknown): string {
  return value === null || value === undefined ? 'unknown' : String(value)
}
