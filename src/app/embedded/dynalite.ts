// Promises: DynamoDB's API on 127.0.0.1 for tests, demos and trials (dynalite), which ends with the process that started it. Without
// a folder it is in memory. With one it is a LevelDB there, and what it has acknowledged survives kill -9 (tested: it writes its log
// before it answers) though not a power cut (it does not sync).
import { mkdirSync } from 'node:fs'
import { startChildServer } from './child-server.ts'
import { freePort } from './free-port.ts'

export interface EmbeddedDynalite extends AsyncDisposable {
  readonly endpoint: string
  readonly port: number
  readonly pid: number
  /** As kill -9; resolves when it has ended. */
  kill(): Promise<void>
  stop(): Promise<void>
}

export async function startDynalite(options: { readonly folder?: string; readonly port?: number } = {}): Promise<EmbeddedDynalite> {
  if (options.folder !== undefined) mkdirSync(options.folder, { recursive: true })
  const task = { port: options.port ?? (await freePort()), ...(options.folder === undefined ? {} : { path: options.folder }) }
  const child = await startChildServer<{ port: number; pid: number }>({
    entry: new URL(`./dynalite-child${import.meta.url.slice(import.meta.url.lastIndexOf('.'))}`, import.meta.url),
    args: [JSON.stringify(task)],
    name: 'dynalite',
  })
  const { port, pid } = child.ready
  return { endpoint: `http://127.0.0.1:${port}`, port, pid, kill: child.kill, stop: child.stop, [Symbol.asyncDispose]: child.stop }
}
