// The simulator's model of the target, over the simulator's network: as much of the target contract as the commit engine and the syncs use.
import type { TargetOperation } from '../../src/targets/memory/faults.ts'
import { FakeStore, type Operation } from '../commit/fake-store.ts'
import { contractMapping } from '../contract/contract-mapping.ts'
import { type ContractFaults, engineContract } from '../contract/target-contract.ts'
import { Coverage } from './coverage.ts'
import { Kernel, STORMY } from './kernel.ts'
import { linkedTarget } from './linked-target.ts'
import { Pump } from './pumped.ts'

const LATE_MS = 1_000

type Fault = 'drop' | 'refuse' | 'hold' | 'duplicate'

/** A network in calm weather, but for the next message of which it is told otherwise. */
class ScriptedKernel extends Kernel {
  fault: Fault | null = null

  override chance(probability: number): boolean {
    return this.fault === null ? super.chance(probability) : this.fault === 'duplicate'
  }

  override delay(from: string, to: string): number {
    if (this.fault === 'hold' && to === 'target') return LATE_MS
    return this.fault === 'drop' && from === 'target' ? Number.POSITIVE_INFINITY : super.delay(from, to)
  }
}

engineContract('the model of the target', async (keyType) => {
  const kernel = new ScriptedKernel(1, { traced: false })
  kernel.heal()
  const world = {
    kernel,
    store: new FakeStore(),
    coverage: new Coverage(),
    failing: null as { operation: Operation; untilMs: number } | null,
    late: null,
  }
  const pump = new Pump(kernel.time)
  const linked = linkedTarget(world, kernel.host('gateway'), 'commit')
  const next = new Map<string, Fault>()
  const calm = kernel.weather
  const scripted = new Proxy(linked, {
    get: (target, name: string) => {
      const value: unknown = Reflect.get(target, name)
      if (name === 'prepare') return async () => undefined
      if (typeof value !== 'function') return value
      return (...args: unknown[]) => {
        const fault = next.get(name) ?? null
        next.delete(name)
        kernel.fault = fault
        if (fault === 'refuse') {
          kernel.weather = STORMY
          world.failing = { operation: name as Operation, untilMs: Number.POSITIVE_INFINITY }
        }
        // What becomes of a message is known when it is sent.
        const sent: unknown = value.apply(target, args)
        kernel.fault = null
        kernel.weather = calm
        world.failing = null
        return sent
      }
    },
  })
  const faults: ContractFaults = {
    dropNextReply: (operation: TargetOperation) => void next.set(operation, 'drop'),
    refuseNext: (operation: TargetOperation) => void next.set(operation, 'refuse'),
    lateNext(operation: TargetOperation, how: 'hold' | 'duplicate') {
      next.set(operation, how)
      return () => pump.passed(LATE_MS)
    },
  }
  return { target: pump.pumped(scripted), faults, mapping: contractMapping('model', keyType), [Symbol.asyncDispose]: async () => undefined }
})
