// Promises: a server process that does not outlive the one that started it, however that one ends (kill -9 included), and whose
// temporary folder goes with it. Run as a child of its own: its standard input is the life line. Arguments: one JSON KeeperTask.

import { spawn } from 'node:child_process'
import { rmSync } from 'node:fs'
import { nodeArguments } from '../node-arguments.ts'

export interface KeeperTask {
  readonly command: string
  readonly args: readonly string[]
  readonly cwd?: string
  readonly uid?: number
  readonly gid?: number
  readonly env?: Readonly<Record<string, string>>
  /** Sent when the life line ends; SIGKILL follows after killAfterMs. */
  readonly stopSignal: NodeJS.Signals
  readonly killAfterMs: number
  /** Removed once the child has ended after the life line has. */
  readonly removeFolder?: string
}

const KEEPER_FLAG = '--switchback-keeper'

if (process.argv[2] === KEEPER_FLAG) keep(JSON.parse(process.argv[3]!) as KeeperTask)

/**
 * Command line that keeps the task: spawn it with stdin a pipe and end that pipe to stop. Spawned detached, so that neither a terminal's
 * Ctrl-C nor a kill of the whole group reaches it or its server: only the life line decides, and whoever started it can still shut
 * down in order.
 */
export function keeperCommand(task: KeeperTask): { command: string; args: string[] } {
  return { command: process.execPath, args: [...nodeArguments(), new URL(import.meta.url).pathname, KEEPER_FLAG, JSON.stringify(task)] }
}

function keep(task: KeeperTask): void {
  const child = spawn(task.command, [...task.args], {
    stdio: ['ignore', 'inherit', 'inherit'],
    env: { ...process.env, ...task.env },
    ...(task.cwd === undefined ? {} : { cwd: task.cwd }),
    ...(task.uid === undefined ? {} : { uid: task.uid }),
    ...(task.gid === undefined ? {} : { gid: task.gid }),
  })
  let stopping = false
  const stop = () => {
    if (stopping) return
    stopping = true
    child.kill(task.stopSignal)
    setTimeout(() => child.kill('SIGKILL'), task.killAfterMs).unref()
  }
  process.on('SIGTERM', stop)
  process.stdin.resume()
  process.stdin.on('end', stop)
  process.stdin.on('error', stop)
  child.on('error', (error) => {
    process.stderr.write(`${error.message}\n`)
    process.exit(127)
  })
  child.on('exit', (code, signal) => {
    if (stopping && task.removeFolder !== undefined) rmSync(task.removeFolder, { recursive: true, force: true })
    process.exit(signal === null ? (code ?? 1) : 128)
  })
}
