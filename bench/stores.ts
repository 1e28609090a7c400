// Promises: the two stores that benches run against, each in a process of its own, opened for a mapping and ended with the bench.
import { startDynalite } from '../src/app/embedded/dynalite.ts'
import { startMemoryTarget } from '../src/app/embedded/memory-target.ts'
import { systemClock } from '../src/lib/clock.ts'
import { systemRandom } from '../src/lib/prng.ts'
import type { Mapping } from '../src/model/mapping.ts'
import type { Target } from '../src/model/target.ts'
import { openDynamoTarget } from '../src/targets/dynamodb/dynamodb-target.ts'
import { connectMemoryTarget } from '../src/targets/memory/client.ts'

export interface Store extends AsyncDisposable {
  readonly port: number
  /** One more connection, as another process would have. */
  open(mapping: Mapping): Promise<Target>
}

/** Everything that was deferred ends in reverse order, whatever happens. */
export async function withEnds<T>(work: (defer: (end: () => unknown) => void) => Promise<T>): Promise<T> {
  const ends: (() => unknown)[] = []
  try {
    return await work((end) => ends.push(end))
  } finally {
    for (const end of ends.reverse()) await end()
  }
}

export async function memoryStore(): Promise<Store> {
  const server = await startMemoryTarget()
  return store(server.port, server.stop, () =>
    connectMemoryTarget({ port: server.port, clock: systemClock, random: systemRandom, requestTimeoutMs: 60_000 }),
  )
}

export async function dynaliteStore(): Promise<Store> {
  const server = await startDynalite()
  return store(server.port, server.stop, (mapping) =>
    openDynamoTarget({
      mapping,
      endpoint: server.endpoint,
      region: 'local',
      credentials: { accessKeyId: 'bench', secretAccessKey: 'bench' },
      requestTimeoutMs: 60_000,
    }),
  )
}

function store(port: number, stop: () => Promise<void>, connect: (mapping: Mapping) => Target): Store {
  const targets: Target[] = []
  return {
    port,
    async open(mapping) {
      const target = connect(mapping)
      targets.push(target)
      await target.prepare(mapping)
      return target
    },
    async [Symbol.asyncDispose]() {
      for (const target of targets) await target.close()
      await stop()
    },
  }
}
