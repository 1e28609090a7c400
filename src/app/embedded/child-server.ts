// Promises: a server of ours in a process of its own, kept by keeper.ts so that it ends with whoever started it. It has said that it
// is ready before it counts as started.

import { type ChildProcess, spawn } from 'node:child_process'
import { nodeArguments } from '../node-arguments.ts'
import { keeperCommand } from './keeper.ts'

const READY_DEADLINE_MS = 30_000
const STOP_DEADLINE_MS = 5_000
const LOG_CHARACTERS_MAX = 20_000

export interface ChildServer<R> extends AsyncDisposable {
  /** What it said with `ready {json}` on its standard output. */
  readonly ready: R
  /** As kill -9; resolves when it has ended. */
  kill(): Promise<void>
  stop(): Promise<void>
}

/** `entry` is a module next to the caller, run by the same Node.js with the same loader. */
export async function startChildServer<R extends { readonly pid: number }>(options: {
  readonly entry: URL
  readonly args: readonly string[]
  readonly name: string
  readonly removeFolder?: string
}): Promise<ChildServer<R>> {
  const { command, args } = keeperCommand({
    command: process.execPath,
    args: [...nodeArguments(), options.entry.pathname, ...options.args],
    stopSignal: 'SIGTERM',
    killAfterMs: STOP_DEADLINE_MS,
    ...(options.removeFolder === undefined ? {} : { removeFolder: options.removeFolder }),
  })
  const keeper = spawn(command, args, { stdio: ['pipe', 'pipe', 'pipe'], detached: true })
  keeper.stdin.on('error', () => undefined)
  const ended = new Promise<void>((resolve) => keeper.once('exit', () => resolve()))
  const stop = () => {
    keeper.stdin.end()
    return ended
  }
  try {
    const ready = await readiness<R>(keeper, options.name)
    const kill = () => {
      if (keeper.exitCode === null && keeper.signalCode === null) process.kill(ready.pid, 'SIGKILL')
      return ended
    }
    return { ready, kill, stop, [Symbol.asyncDispose]: stop }
  } catch (error) {
    await stop()
    throw error
  }
}

function readiness<R>(keeper: ChildProcess, name: string): Promise<R> {
  return new Promise((resolve, reject) => {
    let out = ''
    let log = ''
    const timer = setTimeout(() => reject(new Error(`${name} was not ready within ${READY_DEADLINE_MS} ms: ${log}`)), READY_DEADLINE_MS)
    keeper.once('exit', (code) => {
      clearTimeout(timer)
      reject(new Error(`${name} ended with ${code} at its start: ${log}`))
    })
    keeper.stderr!.on('data', (chunk: Buffer) => {
      if (log.length < LOG_CHARACTERS_MAX) log += chunk.toString('utf8')
    })
    keeper.stdout!.on('data', (chunk: Buffer) => {
      if (out.length < LOG_CHARACTERS_MAX) out += chunk.toString('utf8')
      const line = /^ready (.*)\n/m.exec(out)
      if (line === null) return
      clearTimeout(timer)
      resolve(JSON.parse(line[1]!) as R)
    })
  })
}
