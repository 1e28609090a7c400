// Promises: bugs planted around the engine, each one rule of the protocol taken out: if the walk did not catch them, its silence on
// the real engine would mean nothing.
import type { Target } from '../../src/model/target.ts'
import type { Plant } from './walk/world.ts'

interface Planted {
  readonly because: string
  readonly plant: Plant
}

const over = (target: Target, changed: Partial<Target>): Target => ({ ...target, ...changed })

export const PLANTS = {
  rowsFirst: {
    because: 'rows are put before their entry is there',
    plant: {
      target: (target, time) =>
        over(target, {
          appendEntry: (outbox, sequence, entry) => {
            time.after(60, () => void target.appendEntry(outbox, sequence, entry).catch(() => {}))
            return Promise.resolve()
          },
        }),
    },
  },
  noHelp: {
    because: 'nobody finishes what another left behind',
    plant: {
      target: (target) =>
        over(target, {
          readHead: async (key) => {
            const head = await target.readHead(key)
            return head === null ? null : { ...head, redo: [] }
          },
        }),
    },
  },
  noLease: { because: 'the lease is not looked at', plant: { holds: () => () => true } },
  uncounted: { because: 'a fence does not wait for what is in flight', plant: { flights: 'uncounted' } },
  noStamps: {
    because: 'a late put overwrites what is newer',
    plant: {
      store: (store) => {
        store.comparesStamps = false
      },
    },
  },
  noMark: {
    because: 'rows of several are shown at once',
    plant: { target: (target) => over(target, { putRows: (rows) => target.putRows(rows.map((row) => ({ ...row, mark: false }))) }) },
  },
  staleHead: {
    because: 'the head that says whether several rows belong together is read as it was before',
    plant: {
      target: (target) => {
        const seen = new Map<string, Awaited<ReturnType<Target['readHead']>>>()
        return over(target, {
          readHead: async (key) => {
            const before = seen.get(key)
            const head = await target.readHead(key)
            seen.set(key, head)
            return before ?? head
          },
        })
      },
    },
  },
  casRepeated: {
    because: 'the driver repeats a compare-and-set and reports the loss against itself',
    plant: {
      target: (target) =>
        over(target, {
          compareAndSetHead: async (key, expected, next) => {
            try {
              return await target.compareAndSetHead(key, expected, next)
            } catch {
              await target.compareAndSetHead(key, expected, next).catch(() => {})
              return { won: false, head: null }
            }
          },
        }),
    },
  },
  ackedUnapplied: {
    because: 'a client is answered before the rows are there',
    plant: {
      target: (target) =>
        over(target, {
          putRows: (rows) => {
            void target.putRows(rows).catch(() => {})
            return Promise.resolve()
          },
        }),
    },
  },
} as const satisfies Record<string, Planted>

export type PlantName = keyof typeof PLANTS
