import { systemClock } from '../../src/lib/clock.ts'
import { connectMemoryTarget } from '../../src/targets/memory/client.ts'
import { FaultScript, withFaults } from '../../src/targets/memory/faults.ts'
import { MemoryTarget } from '../../src/targets/memory/memory-target.ts'
import { serveMemoryTarget } from '../../src/targets/memory/server.ts'
import { targetContract } from '../contract/target-contract.ts'

targetContract('memory in process', async () => {
  const faults = new FaultScript()
  const target = withFaults(new MemoryTarget(), faults.hook, systemClock)
  return { target, faults, [Symbol.asyncDispose]: () => target.close() }
})

targetContract('memory over TCP', async () => {
  const faults = new FaultScript()
  const server = await serveMemoryTarget({ faults: faults.hook })
  const target = connectMemoryTarget({ port: server.port, requestTimeoutMs: 1_000 })
  return {
    target,
    faults,
    async [Symbol.asyncDispose]() {
      await target.close()
      await server.close()
    },
  }
})
