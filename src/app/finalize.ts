// Promises: the one-way door (protocols.md, The ends): checks that every slot is steady on the target, without poison or debt; drains
// the reverse sync as a flip does; then drops slot and outboxes, and makes the guard an unconditional refusal.

import { systemClock } from '../lib/clock.ts'
import { SwitchbackError } from '../model/errors.ts'
import { guardFinal } from '../source/guard.ts'
import { createSource } from '../source/postgres-source.ts'
import type { PostgresLeaderControl } from '../store/leader-control.ts'
import type { Syncs } from './syncs.ts'
import type { Workspace } from './workspace.ts'

export interface FinalizeParts {
  readonly workspace: Workspace
  readonly control: PostgresLeaderControl
  readonly syncs: Syncs
}

export async function finalize(parts: FinalizeParts, signal: AbortSignal): Promise<Readonly<Record<string, unknown>>> {
  const { workspace, control, syncs } = parts
  await checkReady(control)
  const view = await control.view()
  const slots = [...view.rows()].map((row) => row.slot)
  const drained = await syncs.reverse.drain(slots, await control.leases(), signal)
  if (!drained.drained || drained.held.length > 0) {
    throw new SwitchbackError('FINALIZE_NOT_READY', {
      checks: [...drained.waitingFor, ...drained.held.map((h) => `slot ${h.slot}: ${h.because}`)],
    })
  }
  await guardFinal(workspace.admin, workspace.mapping)
  await control.journal('finalize', { slots: slots.length })
  const source = createSource({ url: workspace.url, mapping: workspace.mapping, migration: workspace.config.migration, clock: systemClock })
  await source.dropSlot()
  return { slots: slots.length, entriesApplied: drained.entriesApplied }
}

async function checkReady(control: PostgresLeaderControl): Promise<void> {
  const [view, poison, flips] = await Promise.all([control.view(), control.poison(), control.openFlips()])
  const rows = [...view.rows()]
  const elsewhere = rows.filter((row) => row.owner !== 'target' || row.phase !== 'steady')
  const checks = [
    ...(elsewhere.length > 0 ? [`${elsewhere.length} slots are not steady on the target: run \`switchback canary advance 100%\`.`] : []),
    ...poison.map((p) => `Key ${p.key} could not be written back: ${p.message}.`),
    ...flips.map((flip) => `Flip ${flip.id} is open.`),
  ]
  if (checks.length > 0) throw new SwitchbackError('FINALIZE_NOT_READY', { checks })
}
