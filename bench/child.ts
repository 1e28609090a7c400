// Promises: a part of a bench in a process of its own: one JSON task as its argument, one JSON value as its answer, ended with the bench.
import { spawn } from 'node:child_process'
import { fileURLToPath } from 'node:url'

const EXTENSION = import.meta.url.endsWith('.ts') ? '.ts' : '.js'

/** `name` is a module of this folder. Kills it when `maxMs` are over. */
export async function runChild<R>(
  name: string,
  task: object,
  options: { readonly maxMs: number; readonly signal: AbortSignal },
): Promise<R> {
  const file = fileURLToPath(new URL(`./${name}${EXTENSION}`, import.meta.url))
  const child = spawn(process.execPath, [...process.execArgv, file, JSON.stringify(task)], { stdio: ['ignore', 'pipe', 'inherit'] })
  const stop = () => child.kill('SIGKILL')
  const deadline = setTimeout(stop, options.maxMs)
  options.signal.addEventListener('abort', stop, { once: true })
  const chunks: Buffer[] = []
  child.stdout.on('data', (chunk: Buffer) => chunks.push(chunk))
  const exitCode = await new Promise<number | null>((resolve) => child.once('close', resolve))
  clearTimeout(deadline)
  options.signal.removeEventListener('abort', stop)
  if (exitCode !== 0) throw new Error(`${name} ended with ${exitCode}`)
  return JSON.parse(Buffer.concat(chunks).toString('utf8')) as R
}

/** In the child. */
export function taskOf<T>(): T {
  return JSON.parse(process.argv[2]!) as T
}

/** Calls at a steady rate until the time is over, whatever becomes of the calls; resolves when all have ended. */
export async function openLoop(
  options: { readonly perSecond: number; readonly seconds: number },
  call: (n: number) => Promise<void>,
): Promise<void> {
  const fromMs = performance.now()
  const total = Math.round(options.perSecond * options.seconds)
  const calls: Promise<void>[] = []
  while (calls.length < total) {
    const due = Math.min(total, Math.floor(((performance.now() - fromMs) / 1_000) * options.perSecond) + 1)
    while (calls.length < due) calls.push(call(calls.length))
    await new Promise((resolve) => setTimeout(resolve, 1))
  }
  await Promise.all(calls)
}
