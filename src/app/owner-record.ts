// Promises: the control item on the target says which PostgreSQL owns it and up to which epoch. It is compared when a lead begins,
// and goes forward with each flip before that is routed. A flip is not held up for long by a target that does not answer: the item is
// then owed, which the journal says, and is written before the next flip to the target begins (protocols.md, Durable control).
import type { Logger } from 'pino'
import { BugError } from '../lib/assert.ts'
import { backoffMs } from '../lib/backoff.ts'
import type { Clock } from '../lib/clock.ts'
import { inTime, LATE } from '../lib/in-time.ts'
import type { Random } from '../lib/prng.ts'
import type { FlipRecord } from '../model/control.ts'
import { hasCode } from '../model/errors.ts'
import { goesForward, mustBelong } from '../model/identity.ts'
import type { Owner } from '../model/ids.ts'
import type { ControlItem, Target } from '../model/target.ts'
import { readIdentity } from '../store/identity.ts'
import type { PostgresLeaderControl } from '../store/leader-control.ts'
import type { Session } from '../store/session.ts'

export interface OwnerRecord {
  /** @throws POSTGRES_CHANGED. With the target silent the comparison is owed. */
  check(): Promise<void>
  /** Before a flip is routed. A target known to be silent is not asked, and owes the item at once. @throws POSTGRES_CHANGED. */
  write(flip: FlipRecord, how: { readonly targetSilent: boolean }, signal: AbortSignal): Promise<void>
  /** What is still owed, for the check of a flip to the target. */
  payDebt(): Promise<readonly string[]>
}

export interface OwnerRecordOptions {
  readonly session: Session
  readonly control: Pick<PostgresLeaderControl, 'journal'>
  readonly target: Pick<Target, 'readControl' | 'writeControl'>
  readonly clock: Clock
  readonly random: Random
  readonly log: Pick<Logger, 'warn'>
}

/** How long a flip waits for the target to take the item. The way home is not held up. */
const OWED_AFTER_MS: Record<Owner, number> = { target: 5_000, source: 1_000 }
const CHECK_WAIT_MS = 1_000
const BACKOFF = { firstMs: 20, capMs: 500 }
export const ITEM_OWED = 'control item owed'
export const ITEM_PAID = 'control item written'
const LAST_DEBT = 'select j.kind from switchback.journal j where j.kind = any ($1) order by j.id desc limit 1'

export function openOwnerRecord(options: OwnerRecordOptions): OwnerRecord {
  const { session, control, target, clock, random, log } = options
  let known: ControlItem | null = null
  /** Of this lead: its connection ends with the server that it began on. */
  let server: ControlItem | null = null
  let owed = false
  const put = async (next: ControlItem): Promise<void> => {
    while (goesForward(known, next)) {
      if (await target.writeControl(known, next)) {
        known = next
        return
      }
      known = await target.readControl()
      mustBelong(known, { ...next, epoch: Math.max(next.epoch, known?.epoch ?? 0) })
    }
  }
  /** False: the target has not answered in time. */
  const insist = async (next: ControlItem, forMs: number, signal: AbortSignal): Promise<boolean> => {
    const late = new AbortController()
    const disarm = clock.after(forMs, () => late.abort())
    const stop = AbortSignal.any([signal, late.signal])
    const trying = async () => {
      for (let attempt = 0; !stop.aborted; attempt++) {
        try {
          await put(next)
          return true
        } catch (error) {
          if (hasCode(error, 'POSTGRES_CHANGED')) throw error
          log.warn({ error: String(error) }, 'the control item could not be written to the target; tried again')
        }
        await clock.sleep(backoffMs(attempt, BACKOFF, random), stop)
      }
      return false
    }
    // A request that hangs has its own timeout; what it still does goes forward only.
    return await Promise.race([trying(), aborted(stop)]).finally(disarm)
  }
  /** Undefined: the target is silent, which keeps no leader from leading the way back. */
  const itemInTime = async (): Promise<ControlItem | null | undefined> => {
    const read = target.readControl().catch((error: unknown) => {
      log.warn({ error: String(error) }, 'the control item could not be read from the target')
      return undefined
    })
    const item = await inTime(clock, CHECK_WAIT_MS, read)
    return item === LATE ? undefined : item
  }
  return {
    async check() {
      server = await readIdentity(session)
      const read = await itemInTime()
      if (read === undefined) log.warn('the target does not say whose it is: this lead compares before the next flip to it')
      else {
        known = read
        mustBelong(known, server)
      }
      const [last] = await session.query(LAST_DEBT, [[ITEM_OWED, ITEM_PAID]])
      // The first one is written before the first flip to the target begins: a failover before that concerns nobody.
      owed = last?.['kind'] === ITEM_OWED || read === undefined || read === null
    },
    async write(flip, { targetSilent }, signal) {
      const next = { ...checked(server), epoch: flip.epoch }
      if (!targetSilent && (await insist(next, OWED_AFTER_MS[flip.to], signal))) return
      owed = true
      await control.journal(ITEM_OWED, { flip: flip.id, epoch: flip.epoch })
      log.warn({ flip: flip.id }, 'the target did not take the control item: it is owed, and written before the next flip to the target')
    },
    async payDebt() {
      if (!owed) return []
      const here = await readIdentity(session)
      if (!(await insist(here, OWED_AFTER_MS.target, new AbortController().signal)))
        return ['the control item is not on the target yet, which does not answer']
      await control.journal(ITEM_PAID, { epoch: here.epoch })
      owed = false
      return []
    },
  }
}

function checked(server: ControlItem | null): ControlItem {
  if (server === null) throw new BugError('the owner of the target was not checked at the start of this lead')
  return server
}

function aborted(signal: AbortSignal): Promise<false> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve(false)
    else signal.addEventListener('abort', () => resolve(false), { once: true })
  })
}
