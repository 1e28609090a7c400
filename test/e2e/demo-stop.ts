// Promises: a demo that is stopped on its way, by a terminal's Ctrl-C (the whole group hears it) or by a signal to itself alone, says so,
// ends with 3 (130 at a second signal), and leaves no process, port or temporary folder.
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { chmodSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync } from 'node:fs'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { switchback } from '../../examples/ledger/processes.ts'
import { eventually } from '../support/eventually.ts'
import { ProcessTree } from './process-tree.ts'

/** Caches of the machine, which outlive whoever fills them: shared, and no trace. */
const CACHES = /^(switchback-postgres-\d|tsx-|node-compile-cache)/

const SAYS_MS = 150_000

export interface Stop {
  readonly when: string
  /** Of its standard output. */
  readonly says: RegExp
  readonly signal: NodeJS.Signals
  readonly group: boolean
  /** A second one behind the first: there is no time for an orderly end. */
  readonly twice?: boolean
  /** Of the demo, besides those that make it small. */
  readonly options?: readonly string[]
}

export function stopTest({ when, says, signal, group, twice = false, options = [] }: Stop): void {
  const name = `a demo that is stopped leaves nothing: ${signal}${twice ? ' twice' : ''} ${group ? 'to its whole group' : 'to it alone'}, ${when}`
  test(name, { timeout: 220_000, skip: process.platform !== 'linux' }, async () => {
    const folder = temporaryFolder()
    const [command, args] = switchback(['demo', '--seed', '7', '--accounts', '60', '--rate', '100', ...options])
    const child = spawn(command, args, { env: { ...process.env, TMPDIR: folder }, detached: true, stdio: ['ignore', 'pipe', 'pipe'] })
    const tree = new ProcessTree(child.pid!)
    let [stdout, stderr] = ['', '']
    child.stdout.on('data', (chunk: Buffer) => {
      stdout += chunk.toString('utf8')
    })
    child.stderr.on('data', (chunk: Buffer) => {
      stderr += chunk.toString('utf8')
    })
    const ended = new Promise<number | null>((resolve) => child.once('exit', resolve))
    try {
      await eventually(() => says.test(stdout), `it says ${says}`, SAYS_MS).finally(() => tree.note())
      const noted = tree.size
      const ports = portsOf(folder)
      process.kill(group ? -child.pid! : child.pid!, signal)
      // Two that come at once may be one to the system.
      const noting = setInterval(() => {
        tree.note()
        if (twice) child.kill(signal)
      }, 20)
      const exitCode = await ended.finally(() => clearInterval(noting))
      // Its embedded servers see it gone, and end by themselves.
      if (twice) await eventually(() => tree.living().length === 0 && leftIn(folder).length === 0, 'nothing is left')
      assert.deepEqual(
        { exitCode, living: tree.living(), left: leftIn(folder), listening: await listening(ports) },
        { exitCode: twice ? 130 : 3, living: [], left: [], listening: [] },
        `${stdout}\n${stderr}`,
      )
      if (!twice) assert.match(stdout, /\nStopped; everything that was started has ended\.\n$/)
      assert.doesNotMatch(stderr, /^error |\n {4}at /m)
      assert.ok(noted >= 1, 'it was looked at')
    } finally {
      tree.kill()
      rmSync(folder, { recursive: true, force: true })
    }
  })
}

/** Where the demo makes its folders: with the machine's caches in it, so that nothing is compiled or copied anew. */
function temporaryFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), 'switchback-stop-'))
  chmodSync(folder, 0o755)
  for (const name of readdirSync(tmpdir())) if (CACHES.test(name)) symlinkSync(join(tmpdir(), name), join(folder, name))
  return folder
}

function leftIn(folder: string): string[] {
  return readdirSync(folder).filter((name) => !CACHES.test(name))
}

/** As its own configuration names them; none yet while it starts. */
function portsOf(folder: string): number[] {
  const made = readdirSync(folder).find((name) => name.startsWith('switchback-demo-'))
  if (made === undefined) return []
  try {
    const config = readFileSync(join(folder, made, 'switchback.config.ts'), 'utf8')
    return [...config.matchAll(/(?:port: |127\.0\.0\.1:)(\d+)/g)].map((match) => Number(match[1]))
  } catch {
    return []
  }
}

async function listening(ports: readonly number[]): Promise<number[]> {
  const answers = await Promise.all(
    ports.map(
      (port) =>
        new Promise<number | null>((resolve) => {
          const socket = connect(port, '127.0.0.1')
          socket.on('connect', () => {
            socket.destroy()
            resolve(port)
          })
          socket.on('error', () => resolve(null))
        }),
    ),
  )
  return answers.filter((port) => port !== null)
}
