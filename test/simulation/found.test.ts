// What seeds have found, each held by a test of its own: the seeds themselves change their course with every change of the scenario.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Kernel } from './kernel.ts'
import { Postgres } from './postgres.ts'

test('the model: a backend that is ended while its commit becomes visible keeps its rows locked until it is', async () => {
  const kernel = new Kernel(1, { traced: false })
  kernel.heal()
  const postgres = new Postgres(kernel, [7])
  postgres.slotOf = () => 7
  postgres.seed([{ key: 'A', pot: 'x', values: ['A', 'x', '100', '0'], by: 0 }])
  const host = kernel.host('client')
  const begin = (name: string) => {
    const backend = postgres.connect(host, name)
    return { backend, transaction: postgres.begin(backend, 'read committed') }
  }
  const first = begin('first')
  const second = begin('second')
  const lost = async () => {
    await postgres.update(first.transaction, 'A', 7, { x: 1 }, 1)
    await postgres.commit(first.transaction)
  }
  const ended = (async () => {
    while (postgres.wal.length === 0) await postgres.walGrew.next()
    postgres.terminate(first.backend)
  })()
  const next = async () => {
    await kernel.sleep(host, 1)
    await postgres.update(second.transaction, 'A', 7, { x: 1 }, 2)
    await postgres.commit(second.transaction)
  }
  await kernel.time.run(Promise.allSettled([lost(), next(), ended]))
  assert.equal(postgres.rows.get('Ax')!.at(-1)!.value.values![2], '102', 'an update was lost')
})

test('the model: of two inserts that wait for one and the same row to go away, the first puts its own there and the other is a duplicate', async () => {
  const kernel = new Kernel(1, { traced: false })
  kernel.heal()
  const postgres = new Postgres(kernel, [7])
  postgres.slotOf = () => 7
  postgres.seed([{ key: 'A', pot: 'n', values: ['A', 'n', '0', '0'], by: 0 }])
  const host = kernel.host('client')
  const run = async (name: string, afterMs: number, act: 'insert' | 'delete', by: number) => {
    const transaction = postgres.begin(postgres.connect(host, name), 'read committed')
    await kernel.sleep(host, afterMs)
    await postgres.update(transaction, 'A', 7, { n: act }, by)
    await kernel.sleep(host, 50)
    await postgres.commit(transaction)
  }
  const ended = await kernel.time.run(
    Promise.allSettled([run('first', 0, 'delete', 1), run('second', 20, 'insert', 2), run('third', 25, 'insert', 3)]),
  )
  const codes = ended.map((one) => (one.status === 'fulfilled' ? 'committed' : (one.reason as { code?: string }).code))
  assert.deepEqual(codes.sort(), ['23505', 'committed', 'committed'])
})

test('no machine is set back while its clocks stand still (10368, 6895)', () => {
  for (let seed = 1; seed <= 20; seed++) {
    const kernel = new Kernel(seed, { traced: false })
    const [asleep, setBack] = [kernel.host('a'), kernel.host('b')]
    kernel.suspend(asleep, 800)
    const jumped = kernel.jump(asleep, -1_500)
    assert.equal(jumped, asleep.stoodStillMs > 0 ? 1_500 : -1_500)
    assert.equal(kernel.jump(setBack, -1_500), -1_500)
    kernel.suspend(setBack, 800)
    assert.equal(setBack.stoodStillMs, 0)
  }
})
