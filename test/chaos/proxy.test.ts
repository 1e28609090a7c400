import assert from 'node:assert/strict'
import { connect, createServer, type Socket } from 'node:net'
import { test } from 'node:test'
import { FaultProxy, type LineFault } from '../../examples/ledger/fault-proxy.ts'
import { eventually } from '../support/eventually.ts'

/** A client over the line to a server that keeps what it hears, and says everything back. */
async function scene() {
  const served: Socket[] = []
  const chunks: Buffer[] = []
  const server = createServer((socket) => {
    served.push(socket)
    socket.on('error', () => undefined)
    socket.on('data', (chunk: Buffer) => {
      chunks.push(chunk)
      socket.write(chunk)
    })
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const proxy = await FaultProxy.open((server.address() as { port: number }).port)
  const clients: Client[] = []
  const client = () => {
    const opened = new Client(proxy.port)
    clients.push(opened)
    return opened
  }
  return {
    proxy,
    served,
    client,
    chunks,
    async [Symbol.asyncDispose]() {
      for (const { socket } of clients) socket.destroy()
      await proxy[Symbol.asyncDispose]()
      await new Promise((resolve) => server.close(resolve))
    },
  }
}

class Client {
  readonly socket: Socket
  heard = ''
  error: string | null = null

  constructor(port: number) {
    this.socket = connect(port, '127.0.0.1')
    this.socket.on('data', (chunk: Buffer) => {
      this.heard += chunk.toString('latin1')
    })
    this.socket.on('error', (error: NodeJS.ErrnoException) => {
      this.error = error.code ?? error.message
    })
  }

  async says(text: string): Promise<void> {
    const from = this.heard.length
    this.socket.write(text)
    await eventually(() => this.heard.length >= from + text.length, 'it comes back')
    assert.equal(this.heard.slice(from), text)
  }
}

const LONG = Array.from({ length: 200_000 }, (_, i) => String.fromCharCode(97 + (i % 26))).join('')

test('a line carries every byte in order, whole, sliced and delayed', async () => {
  await using at = await scene()
  const client = at.client()
  await client.says(LONG)
  for (const fault of ['slices', 'delay'] satisfies LineFault[]) {
    at.proxy.break(fault)
    await client.says('a short message, and another')
    await client.says(LONG)
    at.proxy.mend()
  }
})

test('a sliced message arrives in pieces', async () => {
  await using at = await scene()
  const client = at.client()
  await client.says('before')
  at.chunks.length = 0
  at.proxy.break('slices')
  await client.says('sliced')
  assert.ok(at.chunks.length > 1, 'the cut lies within it')
})

test('a reset line resets what it carries and who comes, until it is mended', async () => {
  await using at = await scene()
  const client = at.client()
  await client.says('before')
  at.proxy.break('reset')
  await eventually(() => client.socket.destroyed, 'it is reset')
  await eventually(() => at.served[0]!.destroyed, 'its peer too')
  const later = at.client()
  await eventually(() => later.socket.destroyed, 'refused')
  assert.deepEqual([client.error, later.error], ['ECONNRESET', 'ECONNRESET'])
  assert.equal(at.served.length, 1)
  at.proxy.mend()
  await at.client().says('after')
})

test('a silent line keeps connections and says later what was said meanwhile', async () => {
  await using at = await scene()
  const client = at.client()
  await client.says('before')
  at.proxy.break('black hole')
  client.socket.write('meanwhile')
  const later = at.client()
  later.socket.write('later')
  await eventually(() => !later.socket.connecting, 'it is let in')
  // Another line to the same server answers: this one had its time.
  await using other = await FaultProxy.open((at.served[0]!.localPort ?? 0) as number)
  const beside = new Client(other.port)
  await beside.says('beside')
  beside.socket.destroy()
  assert.deepEqual([client.heard, later.heard], ['before', ''])
  at.proxy.mend()
  await eventually(() => client.heard === 'beforemeanwhile' && later.heard === 'later', 'what was held arrives')
})

test('an end on one side is an end on the other, behind what was said', async () => {
  await using at = await scene()
  const client = at.client()
  await client.says('before')
  client.socket.end('last')
  await eventually(() => client.heard === 'beforelast', 'the answer comes over the half that is open')
  at.served[0]!.end()
  await eventually(() => client.socket.destroyed, 'then it is over')
})

test('a share of the requests is answered by the line: the server never hears of those, and the connection ends behind the answer', async () => {
  await using at = await scene()
  const chances = [0.9, 0.1, 0.9]
  at.proxy.answer({ share: 0.5, random: () => chances.shift()!, reply: 'no' })
  const client = at.client()
  await client.says('first')
  client.socket.write('second')
  await eventually(() => client.socket.destroyed, 'it is ended')
  const later = at.client()
  await later.says('third')
  at.proxy.mend()
  await later.says('fourth')
  assert.deepEqual([client.heard, Buffer.concat(at.chunks).toString()], ['firstno', 'firstthirdfourth'])
})

test('what follows in a request that the line has answered goes nowhere', async () => {
  await using at = await scene()
  at.proxy.answer({ share: 1, random: () => 0, reply: 'no' })
  const client = at.client()
  client.socket.write('a request')
  await eventually(() => client.heard === 'no', 'it is answered')
  client.socket.write(', its body')
  client.socket.end()
  await eventually(() => client.socket.destroyed, 'it is over')
  assert.deepEqual([client.heard, at.chunks], ['no', []])
})
