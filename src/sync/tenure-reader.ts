// Promises: a tenure history that says how far it is complete, at the price of one cheap look at PostgreSQL.
// The insert LSN is read first, in a statement of its own, and ownership after it: whoever committed a change below that LSN in a
// tenure saw the tenure's flip before (the guard reads it), so a look that begins later sees it too. The other order would not do:
// a snapshot taken before the LSN misses a flip that commits between.
import type { LeaderControl } from '../model/control.ts'
import type { Epoch, Lsn } from '../model/ids.ts'
import { extendHistory, type TenureHistory, tenureHistory } from './stamps.ts'

export interface TenureReader {
  current(): TenureHistory
  /** A history that is complete for every commit that was in the WAL when this was called. Calls at one time share one look. */
  refresh(): Promise<TenureHistory>
}

export interface TenureReaderOptions {
  readonly control: Pick<LeaderControl, 'view' | 'tenures' | 'currentWalLsn'>
  /** The epoch counter alone, where that is cheaper than the view; read after the LSN. */
  readonly epoch?: () => Promise<Epoch>
}

export async function createTenureReader(options: TenureReaderOptions): Promise<TenureReader> {
  const { control } = options
  const readAll = async (completeBelow: Lsn): Promise<{ epoch: Epoch; history: TenureHistory }> => {
    // The view before the tenures: what changes between is in the tenures, and the epoch is then asked for again at the next look.
    const view = await control.view()
    const tenures = await control.tenures()
    return { epoch: view.epoch, history: tenureHistory({ tenures, slotOf: (key) => view.slotOf(key), completeBelow }) }
  }
  let known = await readAll(await control.currentWalLsn())
  const look = async (): Promise<TenureHistory> => {
    const lsn = await control.currentWalLsn()
    const epoch = await (options.epoch?.() ?? control.view().then((view) => view.epoch))
    known = epoch === known.epoch ? { epoch, history: extendHistory(known.history, lsn) } : await readAll(lsn)
    return known.history
  }
  let running: Promise<TenureHistory> | null = null
  let queued: Promise<TenureHistory> | null = null
  const begin = (): Promise<TenureHistory> => {
    running = look().finally(() => {
      running = null
    })
    return running
  }
  return {
    current: () => known.history,
    refresh() {
      // A look that is under way may have read its LSN before this call: the next one is shared by all who ask meanwhile.
      if (running === null) return begin()
      queued ??= running.then(
        () => nextLook(),
        () => nextLook(),
      )
      return queued
    },
  }
  function nextLook(): Promise<TenureHistory> {
    queued = null
    return running ?? begin()
  }
}
