// Promises: the end of a move on the target, as the control schema has it: gateways send no outbox entry from an epoch on that all of
// them have acked, and the state is 'final' for good (protocols.md, The ends).
import type { Epoch } from '../model/ids.ts'
import type { Session } from './session.ts'

/**
 * Says that the move ends, at a fresh epoch. Called twice, the second time when all have acked the first: a renewal that shows the
 * second epoch began after the first was committed, so its reader knows that the move ends before it acks.
 */
export async function announceEnd(session: Session, token: number): Promise<Epoch> {
  const [row] = await session.query('select switchback.announce_end($1) as epoch', [token])
  return Number(row!['epoch'])
}

export async function isFinal(session: Session): Promise<boolean> {
  const [row] = await session.query(`select guard = 'final' as final from switchback.state`)
  return row?.['final'] === 't'
}

/** Announced: past the point of no return. */
export async function isEnding(session: Session): Promise<boolean> {
  const [row] = await session.query('select ending from switchback.state')
  return row?.['ending'] === 't'
}
