// Promises: what must hold before the first key may move: INV-8 binds at an epoch that every living gateway has acked, and the guard
// stands on the mapped tables (protocols.md, Leases; Guard). Idempotent: each canary start calls it. A lock that somebody holds is tried for
// again and again, for a while, and who holds it is told.

import type { FlipParts } from '../flip/parts.ts'
import { awaitAcks } from '../flip/waits.ts'
import { systemRandom } from '../lib/prng.ts'
import { SwitchbackError } from '../model/errors.ts'
import { checkGuard, installGuard } from '../source/guard.ts'
import type { PostgresLeaderControl } from '../store/leader-control.ts'
import type { Workspace } from './workspace.ts'

const BIND_DEADLINE_MS = 15_000
/** Then the order fails, by the name of who held the lock; nothing has moved. */
const GUARD_WITHIN_MS = 60_000

export async function arm(
  workspace: Workspace,
  control: PostgresLeaderControl,
  parts: FlipParts,
  { applierRole, tell }: { readonly applierRole: string; tell(step: string): Promise<void> },
  signal: AbortSignal,
): Promise<readonly string[]> {
  const epoch = await control.bind()
  const deadline = AbortSignal.any([signal, AbortSignal.timeout(BIND_DEADLINE_MS)])
  let waiting: string[] = []
  const acked = await awaitAcks(parts, epoch, deadline, (leases) => {
    waiting = leases.map((lease) => lease.gateway)
  })
  if (acked === null)
    throw new SwitchbackError('FLIP_NOT_READY', {
      checks: waiting.map((gateway) => `Gateway ${gateway} has not acked epoch ${epoch}: is it running?`),
    })
  const problems = await checkGuard(workspace.admin, workspace.mapping)
  if (problems.length === 0) return []
  const tries = {
    withinMs: GUARD_WITHIN_MS,
    clock: parts.clock,
    random: systemRandom,
    onRefused: (holders: readonly string[]) =>
      tell(`the guard waits for a lock on the mapped tables${holders.length > 0 ? `: ${holders.join('; ')}` : ''}`),
    signal,
  }
  const { notes } = await installGuard(workspace.admin, workspace.mapping, { applierRole, tries })
  return notes
}
