// Promises: the load as a child process: its samples as they come, its counts when it has stopped.

import { type ChildProcess, spawn } from 'node:child_process'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { nodeArguments } from '../../src/app/node-arguments.ts'
import type { LoadCounts, LoadOptions, LoadSample } from './load.ts'
import type { Steering } from './steering.ts'

const EXTENSION = import.meta.url.endsWith('.ts') ? '.ts' : '.js'

export interface LoadProcess {
  readonly samples: readonly LoadSample[]
  readonly acknowledgedWrites: number
  /** Whom it asks for from now on. */
  steer(steering: Steering): void
  /** Ends the arrivals and waits until every operation has its outcome. Idempotent. */
  stopArrivals(): Promise<void>
  /** The same, and returns the counts. */
  stop(): Promise<LoadCounts>
  kill(): void
}

export function startLoadProcess(options: LoadOptions): LoadProcess {
  const file = fileURLToPath(new URL(`./load-child${EXTENSION}`, import.meta.url))
  const child: ChildProcess = spawn(process.execPath, [...nodeArguments(), file, JSON.stringify(options)], {
    stdio: ['pipe', 'pipe', 'inherit'],
  })
  const onExit = () => child.kill('SIGKILL')
  process.once('exit', onExit)
  child.once('close', () => process.off('exit', onExit))
  child.stdin!.on('error', () => undefined) // it has ended, which is seen by that
  const samples: LoadSample[] = []
  let acknowledged = 0
  let counts: LoadCounts | null = null
  createInterface({ input: child.stdout! }).on('line', (line) => {
    const record = JSON.parse(line) as LoadSample & { counts?: LoadCounts }
    if (record.counts !== undefined) {
      counts = record.counts
      return
    }
    samples.push(record)
    if (record.kind === 'write' && record.outcome === 'acknowledged') acknowledged++
  })
  const closed = new Promise<void>((resolve) => child.once('close', () => resolve()))
  return {
    samples,
    get acknowledgedWrites() {
      return acknowledged
    },
    steer(steering) {
      child.stdin!.write(`${JSON.stringify(steering)}\n`)
    },
    async stopArrivals() {
      child.stdin!.end()
      await closed
    },
    async stop() {
      await this.stopArrivals()
      if (counts === null) throw new Error('the load ended without its counts')
      return counts
    },
    kill() {
      child.kill('SIGKILL')
    },
  }
}
