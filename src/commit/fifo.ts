// Promises: sessions of one gateway take turns at an aggregate, in order of arrival, instead of fighting for its head; reads take no
// turn (protocols.md, Commit protocol). Bounded by name; a fence can end every wait; nobody waits past a deadline.
import type { Clock } from '../lib/clock.ts'
import { SwitchbackError } from '../model/errors.ts'
import type { AggregateAddress } from '../model/executor.ts'
import type { SlotId } from '../model/ids.ts'
import type { AggregateKey } from '../model/key.ts'
import type { ContentionSink } from './contention.ts'

export interface Place {
  /** Idempotent. The next in the queue has it at once. */
  release(): void
}

export interface Wait {
  /** Monotonic. */
  readonly deadlineMs: number
  /** Given a function that ends this wait with AGGREGATE_MOVING. */
  readonly onWait?: (cancel: () => void) => void
}

export interface Fifo {
  /** Throws AGGREGATE_QUEUE_FULL, CONTENTION_DEADLINE, AGGREGATE_MOVING. A place that is free is had in this same tick. */
  acquire(address: AggregateAddress, wait: Wait): Place | Promise<Place>
  /** Ends every wait for aggregates of these slots with AGGREGATE_MOVING; places that are held stay. Returns how many. */
  abortWaiters(slots: { has(slot: SlotId): boolean }): number
  /** How many wait, all keys. */
  waiting(): number
}

export interface FifoOptions {
  readonly clock: Clock
  readonly contention: ContentionSink
  readonly fifoWaitersMax: number
  readonly commitDeadlineMs: number
}

interface Waiter {
  readonly slot: SlotId
  readonly since: number
  readonly admit: (place: Place) => void
  readonly fail: (error: SwitchbackError) => void
  readonly cancelTimer: () => void
}

export function createFifo({ clock, contention, fifoWaitersMax, commitDeadlineMs }: FifoOptions): Fifo {
  /** A key in here is held; its waiters in order. A Set is a queue from whose middle one can leave. */
  const queues = new Map<AggregateKey, Set<Waiter>>()
  let waiting = 0

  const placeOf = (key: AggregateKey): Place => {
    const since = clock.monotonicMs()
    let held = true
    return {
      release() {
        if (!held) return
        held = false
        contention.held(key, clock.monotonicMs() - since)
        pass(key)
      },
    }
  }
  const pass = (key: AggregateKey) => {
    const queue = queues.get(key)
    const next = queue?.values().next().value
    if (queue === undefined || next === undefined) {
      queues.delete(key)
      return
    }
    leave(queue, next)
    contention.queued(key, clock.monotonicMs() - next.since)
    next.admit(placeOf(key))
  }
  const leave = (queue: Set<Waiter>, waiter: Waiter): boolean => {
    if (!queue.delete(waiter)) return false
    waiting--
    waiter.cancelTimer()
    return true
  }
  const enqueue = (queue: Set<Waiter>, { key, slot }: AggregateAddress, { deadlineMs, onWait }: Wait): Promise<Place> =>
    new Promise((resolve, reject) => {
      const now = clock.monotonicMs()
      const end = (error: SwitchbackError) => {
        if (!leave(queue, waiter)) return
        contention.queued(key, clock.monotonicMs() - now)
        reject(error)
      }
      const late = () => end(new SwitchbackError('CONTENTION_DEADLINE', { key, deadlineMs: commitDeadlineMs }))
      const waiter: Waiter = { slot, since: now, admit: resolve, fail: end, cancelTimer: clock.after(Math.max(0, deadlineMs - now), late) }
      queue.add(waiter)
      waiting++
      onWait?.(() => end(moving(key)))
    })

  return {
    acquire(address, wait) {
      const queue = queues.get(address.key)
      if (queue === undefined) {
        queues.set(address.key, new Set())
        return placeOf(address.key)
      }
      if (queue.size >= fifoWaitersMax) {
        throw new SwitchbackError('AGGREGATE_QUEUE_FULL', { key: address.key, limit: fifoWaitersMax, limitName: 'fifoWaitersMax' })
      }
      return enqueue(queue, address, wait)
    },
    abortWaiters(slots) {
      const before = waiting
      for (const [key, queue] of queues) for (const waiter of queue) if (slots.has(waiter.slot)) waiter.fail(moving(key))
      return before - waiting
    },
    waiting: () => waiting,
  }
}

/** Where the config turns the queue off: every session fights. */
export function createNoFifo(): Fifo {
  const place: Place = { release() {} }
  return { acquire: () => place, abortWaiters: () => 0, waiting: () => 0 }
}

function moving(key: AggregateKey): SwitchbackError {
  return new SwitchbackError('AGGREGATE_MOVING', { key })
}
