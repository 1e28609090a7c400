// Promises: a memory target in a process of its own on 127.0.0.1, which ends with the process that started it.
import { startChildServer } from './child-server.ts'

export interface EmbeddedMemoryTarget extends AsyncDisposable {
  readonly port: number
  readonly pid: number
  /** As kill -9: everything in it is gone. */
  kill(): Promise<void>
  stop(): Promise<void>
}

export async function startMemoryTarget(options: { readonly port?: number } = {}): Promise<EmbeddedMemoryTarget> {
  const child = await startChildServer<{ port: number; pid: number }>({
    entry: new URL(`../../targets/memory/main${import.meta.url.slice(import.meta.url.lastIndexOf('.'))}`, import.meta.url),
    args: ['--port', String(options.port ?? 0)],
    name: 'the memory target',
  })
  return { ...child.ready, kill: child.kill, stop: child.stop, [Symbol.asyncDispose]: child.stop }
}
