// Promises: what can go wrong between a caller and a store, on any Target, decided by a hook that tests script: faults.md, rows 8 to
// 12. Deterministic: a fault is taken by the operation it was scripted for, and what is held goes on when it is let go.
import type { Clock } from '../../lib/clock.ts'
import { SwitchbackError } from '../../model/errors.ts'
import type { Target } from '../../model/target.ts'

export const FAULTY_OPERATIONS = [
  'prepare',
  'remove',
  'readHead',
  'compareAndSetHead',
  'appendEntry',
  'readOutbox',
  'deleteBucket',
  'putRows',
  'readRows',
  'readRange',
  'scanRows',
  'purgeTombstones',
  'readControl',
  'writeControl',
] as const
export type TargetOperation = (typeof FAULTY_OPERATIONS)[number]

export type Fault =
  /** As usual, after so long. */
  | { readonly kind: 'delay'; readonly delayMs: number }
  /** Takes effect; its reply is lost. */
  | { readonly kind: 'drop-reply' }
  /** The caller hears nothing; takes effect once `until` resolves, and then `done` is called. */
  | { readonly kind: 'hold'; readonly until: Promise<void>; readonly done: () => void }
  /** As usual, and the same request once more when `until` resolves. */
  | { readonly kind: 'duplicate'; readonly until: Promise<void>; readonly done: () => void }
  /** Known not to have taken effect. */
  | { readonly kind: 'refuse' }

/** Asked once an operation, before it is sent. */
export type FaultHook = (operation: TargetOperation) => Fault | undefined

/** Faults waiting to be taken, first in first out an operation. */
export class FaultScript {
  readonly #waiting = new Map<TargetOperation, Fault[]>()

  readonly hook: FaultHook = (operation) => this.#waiting.get(operation)?.shift()

  add(operation: TargetOperation, fault: Fault): void {
    this.#waiting.set(operation, [...(this.#waiting.get(operation) ?? []), fault])
  }

  dropNextReply(operation: TargetOperation): void {
    this.add(operation, { kind: 'drop-reply' })
  }

  refuseNext(operation: TargetOperation): void {
    this.add(operation, { kind: 'refuse' })
  }

  /** The next one is held, or sent twice; the returned function lets it go, and resolves when it has taken effect. */
  lateNext(operation: TargetOperation, kind: 'hold' | 'duplicate'): () => Promise<void> {
    const gate = deferred()
    const done = deferred()
    this.add(operation, { kind, until: gate.promise, done: done.resolve })
    return () => {
      gate.resolve()
      return done.promise
    }
  }
}

/** The target behind a line that fails as the hook says. A caller that hears nothing gets TARGET_UNKNOWN at once. */
export function withFaults(target: Target, hook: FaultHook, clock: Clock): Target {
  const faulty = <A extends unknown[], R>(operation: TargetOperation, call: (...args: A) => Promise<R>) => {
    return (...args: A): Promise<R> => withFault(hook(operation), operation, () => call.apply(target, args), clock)
  }
  return {
    capabilities: target.capabilities,
    prepare: faulty('prepare', target.prepare),
    remove: faulty('remove', target.remove),
    readHead: faulty('readHead', target.readHead),
    compareAndSetHead: faulty('compareAndSetHead', target.compareAndSetHead),
    appendEntry: faulty('appendEntry', target.appendEntry),
    readOutbox: faulty('readOutbox', target.readOutbox),
    deleteBucket: faulty('deleteBucket', target.deleteBucket),
    putRows: faulty('putRows', target.putRows),
    readRows: faulty('readRows', target.readRows),
    readRange: faulty('readRange', target.readRange),
    async *scanRows(options) {
      for await (const batch of target.scanRows(options)) yield await withFault(hook('scanRows'), 'scanRows', async () => batch, clock)
    },
    purgeTombstones: faulty('purgeTombstones', target.purgeTombstones),
    readControl: faulty('readControl', target.readControl),
    writeControl: faulty('writeControl', target.writeControl),
    close: () => target.close(),
  }
}

/** Runs one call under a fault. */
export async function withFault<R>(fault: Fault | undefined, operation: TargetOperation, call: () => Promise<R>, clock: Clock): Promise<R> {
  switch (fault?.kind) {
    case undefined:
      return call()
    case 'delay':
      await clock.sleep(fault.delayMs)
      return call()
    case 'drop-reply':
      await call()
      throw new SwitchbackError('TARGET_UNKNOWN', { operation, reason: 'the reply was lost' })
    case 'hold':
      void fault.until.then(call).then(fault.done, fault.done) // its caller has gone: nobody hears the outcome
      throw new SwitchbackError('TARGET_UNKNOWN', { operation, reason: 'the request is held' })
    case 'duplicate': {
      const result = await call()
      void fault.until.then(call).then(fault.done, fault.done) // as above
      return result
    }
    case 'refuse':
      throw new SwitchbackError('TARGET_THROTTLED', { operation, reason: 'refused by a fault' })
  }
}

function deferred(): { readonly promise: Promise<void>; readonly resolve: () => void } {
  let resolve = () => {}
  const promise = new Promise<void>((done) => {
    resolve = done
  })
  return { promise, resolve }
}
