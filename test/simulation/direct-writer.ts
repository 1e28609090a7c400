// Promises: a job that writes to PostgreSQL past the gateways, of which it knows nothing, and at times keeps its transaction open for long
// or moves a note from one key to another.
import { SwitchbackError } from '../../src/model/errors.ts'
import { hashSlotOf } from '../../src/model/key.ts'
import { toldOf } from './acts.ts'
import type { Transaction } from './postgres-parts.ts'
import { Connection, ConnectionLost } from './sessions.ts'
import { ConnectionEnded, DIRECT, type ToldWrites, type Write } from './told-writes.ts'
import { KEYS, NOTE, ROW_NAMES, type World } from './world.ts'

export async function writeDirectly(world: World, writes: ToldWrites): Promise<void> {
  const { kernel, postgres } = world
  const host = kernel.host(DIRECT)
  let connection: Connection | null = null
  for (;;) {
    await kernel.sleep(host, kernel.between(30, 250))
    if (world.over || world.begun >= world.allowed) continue
    world.begun++
    const changesKey = kernel.chance(0.2)
    const key = kernel.oneOf(KEYS)
    const to = kernel.oneOf(KEYS.filter((other) => other !== key))
    let write: Write | null = null
    let committing = false
    let failure: unknown = null
    try {
      connection ??= await Connection.open(kernel, postgres, host, DIRECT)
      const begun = changesKey ? beginMove(writes, key, to) : writes.begin(key, world.acts())
      write = begun
      const isolation = kernel.chance(0.5) ? 'repeatable read' : 'read committed'
      const open = connection
      const transaction = await open.call(async (backend) => {
        const one = postgres.begin(backend, isolation)
        await postgres.read(backend, one, key, ROW_NAMES)
        return one
      })
      await kernel.sleep(host, kernel.between(0, kernel.chance(0.2) ? 600 : 30))
      if (changesKey) await move(world, open, transaction, begun)
      else {
        const [part] = begun.parts
        part.missed = 'unsaid'
        part.told = await open.call(() => postgres.update(transaction, key, hashSlotOf(key), part.acts, begun.txn.id))
      }
      await kernel.sleep(host, kernel.between(0, kernel.chance(0.1) ? 600 : 30))
      committing = true
      await open.call(() => postgres.commit(transaction))
    } catch (error) {
      failure = error instanceof ConnectionLost && !committing ? new ConnectionEnded(new SwitchbackError('GATEWAY_CLOSING')) : error
      connection?.close()
      connection = null
    }
    if (write !== null) writes.end(DIRECT, write, failure)
  }
}

/** A note changes its key: it goes from one aggregate and comes to another. */
function beginMove(writes: ToldWrites, from: string, to: string): Write {
  const write = writes.begin(from, { [NOTE]: 'delete' })
  write.parts.push(writes.part(write.txn, to, { [NOTE]: 'insert' }))
  return write
}

async function move(world: World, connection: Connection, transaction: Transaction, { txn, parts }: Write): Promise<void> {
  const [from, to] = parts.map(({ key }) => key) as [string, string]
  const gone = await connection.call(() => world.postgres.changeKey(transaction, from, to, NOTE, txn.id))
  const other = parts.pop()!
  if (gone === null) world.log.refused(other.entry, to)
  else {
    parts.push(other)
    parts[0].told = [`${toldOf(gone)} is gone`]
    other.told = [toldOf([to, NOTE, gone[2]!, String(txn.id)])]
  }
}
