// Promises: the store as one process of the simulation reaches it: over the same network as everything else, now and then throttled or
// refused, a request at times twice; what is under way is counted for coverage.
import { SwitchbackError } from '../../src/model/errors.ts'
import type { Target } from '../../src/model/target.ts'
import { type FakeStore, type Operation, REQUEST_TIMEOUT_MS, remoteTarget } from '../commit/fake-store.ts'
import type { Step } from './coverage.ts'
import type { Host } from './kernel.ts'
import type { World } from './world.ts'

/** Above the margin after which a lease is called over: a page may be older than the lease's end when it comes. */
const OUTBOX_READ_MS = 400

type Linked = Pick<World, 'kernel' | 'coverage' | 'failing' | 'late'> & { readonly store: FakeStore }

/** `watch`: whether it answers at all. That is no work, and covers none. */
export function linkedTarget(world: Linked, host: Host, engine: 'commit' | 'sync' | 'watch'): Target {
  const { kernel, store, coverage } = world
  const fate = (operation: Operation) => {
    const { late } = world
    const heldMs = late?.host === host && late.operations.includes(operation) ? late.untilMs - kernel.now : 0
    const requestMs = Math.max(kernel.delay(host.name, 'target'), heldMs)
    const replyMs = kernel.delay('target', host.name)
    const stormy = kernel.weather.lost > 0
    const { failing } = world
    if (stormy && failing?.operation === operation && kernel.now < failing.untilMs)
      return kernel.chance(0.7)
        ? { requestMs: Number.POSITIVE_INFINITY, replyMs }
        : { requestMs, replyMs, refuse: new SwitchbackError('TARGET_THROTTLED', { operation, reason: 'its partition is hot' }) }
    if (stormy && kernel.chance(0.01))
      return { requestMs, replyMs, refuse: new SwitchbackError('TARGET_THROTTLED', { operation, reason: 'rate' }) }
    if (stormy && operation === 'compareAndSetHead' && kernel.chance(0.003))
      return { requestMs, replyMs, refuse: new SwitchbackError('TARGET_REFUSED', { operation, reason: 'invalid' }) }
    if (operation !== 'compareAndSetHead' && kernel.chance(kernel.weather.twice))
      return { requestMs, replyMs, againMs: kernel.between(20, 600) }
    return { requestMs, replyMs }
  }
  const spreadMs = () => {
    const kind = kernel.random.next()
    if (kernel.weather.lost === 0 || kind < 0.9) return kernel.between(0, 4)
    return kind < 0.97 ? kernel.between(0, 40) : Number.POSITIVE_INFINITY
  }
  const timeoutMs = (operation: Operation) => (engine === 'sync' && operation === 'readOutbox' ? OUTBOX_READ_MS : REQUEST_TIMEOUT_MS)
  const target = remoteTarget({ time: kernel.time, store, host, fate, spreadMs, timeoutMs })
  if (engine === 'watch') return target
  const counted = <A extends unknown[], R>(operation: Operation, call: (...args: A) => Promise<R>) => {
    const step = `${engine}: ${operation}` as Step
    return (...args: A) => coverage.during(step, host, call(...args))
  }
  return {
    ...target,
    readHead: counted('readHead', target.readHead),
    compareAndSetHead: counted('compareAndSetHead', target.compareAndSetHead),
    appendEntry: counted('appendEntry', target.appendEntry),
    putRows: counted('putRows', target.putRows),
    readRows: counted('readRows', target.readRows),
    readRange: counted('readRange', target.readRange),
    readOutbox: counted('readOutbox', target.readOutbox),
    deleteBucket: counted('deleteBucket', target.deleteBucket),
  }
}
