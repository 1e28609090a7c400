import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { startDynalite } from '../../src/app/embedded/dynalite.ts'
import type { RowPut } from '../../src/model/row.ts'
import type { Target } from '../../src/model/target.ts'
import { openDynamoTarget } from '../../src/targets/dynamodb/dynamodb-target.ts'
import { contractMapping, headAt, numbered } from '../contract/contract-mapping.ts'
import { eventually } from '../support/eventually.ts'
import { sharedDynalite } from './shared-dynalite.ts'

const mapping = contractMapping('embedded')

function open(endpoint: string): Target {
  return openDynamoTarget({ mapping, endpoint, region: 'eu-central-1', credentials: { accessKeyId: 'a', secretAccessKey: 'b' } })
}

test('dynalite goes on after a client that resets its connection in the middle of a request', async () => {
  const dynalite = await sharedDynalite()
  for (let i = 0; i < 3; i++) {
    const socket = connect(dynalite.port, '127.0.0.1')
    socket.on('error', () => undefined)
    await once(socket, 'connect')
    socket.write('POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n\r\nhalf')
    await new Promise((resolve) => setImmediate(resolve))
    socket.resetAndDestroy()
    await once(socket, 'close')
  }
  const target = open(dynalite.endpoint)
  await target.prepare(mapping)
  await target.close()
  process.kill(dynalite.pid, 0)
})

test('what dynalite acknowledged survives kill -9 where it has a folder, and it starts again on the same port', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'switchback-dynalite-'))
  const first = await startDynalite({ folder })
  const target = open(first.endpoint)
  await target.prepare(mapping)
  const acknowledged: RowPut[] = []
  const heads: string[] = []
  const write = async (writer: number) => {
    for (let i = 0; ; i++) {
      const put = numbered(`${writer}`, i, 1, [`${writer}-${i}`, null])
      await target.putRows([put])
      acknowledged.push(put)
      const key = `${writer}-${i}`
      if ((await target.compareAndSetHead(key, null, headAt(1, 1, key))).won) heads.push(key)
    }
  }
  const writers = [1, 2, 3, 4].map((writer) => write(writer).catch((error: { code: string }) => error.code))
  await eventually(() => acknowledged.length > 200, '200 acknowledged puts')
  await first.kill()
  for (const code of await Promise.all(writers)) assert.ok(code === 'TARGET_UNKNOWN' || code === 'TARGET_THROTTLED')
  await target.close()
  const second = await startDynalite({ folder, port: first.port })
  const again = open(second.endpoint)
  assert.deepEqual(await again.readRows(acknowledged), acknowledged)
  for (const key of heads) assert.deepEqual(await again.readHead(key), headAt(1, 1, key))
  await again.close()
  await second.stop()
  rmSync(folder, { recursive: true })
})

test('dynalite ends with the process that started it, also when that one is killed with -9', async () => {
  const entry = fileURLToPath(new URL('./fixtures/dynalite-parent.ts', import.meta.url))
  const parent = spawn(process.execPath, [...process.execArgv, entry], { stdio: ['ignore', 'pipe', 'inherit'] })
  const [line] = (await once(parent.stdout, 'data')) as [Buffer]
  const { pid } = JSON.parse(line.toString('utf8')) as { pid: number }
  process.kill(pid, 0)
  parent.kill('SIGKILL')
  await eventually(() => !alive(pid), 'dynalite ended')
})

function alive(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return true
  } catch {
    return false
  }
}
