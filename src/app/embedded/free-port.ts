// Promises: a port of 127.0.0.1 that nobody listens on, and that no outgoing connection is given as its own: what listens there can be
// killed and come back at the same port. It is from below the ranges that systems give out by themselves (Linux from 32768, IANA from
// 49152 on), and processes begin at different places in it, so that two that look at the same moment do not find the same.
import { createServer } from 'node:net'

const FIRST = 20_000
const COUNT = 12_000
/** Apart from the next process, by its pid. */
const STRIDE = 61

let next = (process.pid * STRIDE) % COUNT

/** @throws the error of the last one tried, when all are taken. */
export async function freePort(): Promise<number> {
  for (let tried = 1; ; tried++) {
    const port = FIRST + next
    next = (next + 1) % COUNT
    try {
      await listenOnce(port)
      return port
    } catch (error) {
      if (tried === COUNT) throw error
    }
  }
}

async function listenOnce(port: number): Promise<void> {
  const server = createServer()
  await new Promise<void>((resolve, reject) => server.once('error', reject).listen(port, '127.0.0.1', resolve))
  await new Promise((resolve) => server.close(resolve))
}
