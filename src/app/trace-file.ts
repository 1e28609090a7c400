// Promises: the text of a file, a part at a time, unpacked where it is gzip's (by its first bytes, whatever its name), with few parts in
// memory. A file that ends in the middle is read up to there, and `torn` says so.
import { createReadStream } from 'node:fs'
import { createGunzip } from 'node:zlib'
import { SwitchbackError } from '../model/errors.ts'

const PART_BYTES = 1 << 18
/** Unpacked at a time: a thousandfold of it is the most that comes out. */
const PACKED_BYTES = 1 << 14
const GZIP_MAGIC = [0x1f, 0x8b]

export interface TextFile {
  /** Once only. @throws FILE_UNREADABLE */
  readonly texts: AsyncIterable<string>
  /** Known when `texts` has ended. */
  torn(): boolean
}

export function openTextFile(file: string, signal: AbortSignal): TextFile {
  let torn = false
  async function* texts(): AsyncGenerator<string> {
    const decoder = new TextDecoder()
    try {
      for await (const part of unpacked(file, signal)) yield decoder.decode(part, { stream: true })
    } catch (error) {
      signal.throwIfAborted()
      if ((error as NodeJS.ErrnoException).code !== 'Z_BUF_ERROR') throw unreadable(file, error)
      torn = true
    }
    yield decoder.decode()
  }
  return { texts: texts(), torn: () => torn }
}

async function* unpacked(file: string, signal: AbortSignal): AsyncGenerator<Uint8Array> {
  const stream = createReadStream(file, { highWaterMark: PART_BYTES, signal })
  const parts: AsyncIterator<Buffer> = stream[Symbol.asyncIterator]()
  try {
    let first = Buffer.alloc(0)
    while (first.length < GZIP_MAGIC.length) {
      const next = await parts.next()
      if (next.done) break
      first = Buffer.concat([first, next.value])
    }
    const all = joined(first, parts)
    if (GZIP_MAGIC.every((byte, i) => first[i] === byte)) {
      yield* gunzipped(all)
    } else yield* all
  } finally {
    stream.destroy()
  }
}

async function* joined(first: Buffer, rest: AsyncIterator<Buffer>): AsyncGenerator<Buffer> {
  if (first.length > 0) yield first
  for (let next = await rest.next(); !next.done; next = await rest.next()) yield next.value
}

/** By hand, since a pipe that fails at the end of a file that was cut off drops what it has unpacked and not handed on. */
async function* gunzipped(parts: AsyncIterable<Buffer>): AsyncGenerator<Uint8Array> {
  const gunzip = createGunzip()
  const out: Uint8Array[] = []
  let failure: Error | undefined
  gunzip.on('data', (part: Uint8Array) => out.push(part))
  gunzip.on('error', (error) => {
    failure = error
  })
  const done = (begin: (settled: () => void) => void) =>
    new Promise<void>((resolve) => {
      gunzip.once('close', resolve)
      begin(() => {
        gunzip.off('close', resolve)
        resolve()
      })
    })
  try {
    for await (const part of parts) {
      for (let from = 0; from < part.length; from += PACKED_BYTES) {
        await done((settled) => gunzip.write(part.subarray(from, from + PACKED_BYTES), settled))
        yield* out.splice(0)
        if (failure !== undefined) throw failure
      }
    }
    await done((settled) => gunzip.once('end', settled).end())
    yield* out.splice(0)
    if (failure !== undefined) throw failure
  } finally {
    gunzip.destroy()
  }
}

const REASONS: Readonly<Record<string, string>> = {
  ENOENT: 'it is not there',
  EISDIR: 'it is a folder',
  EACCES: 'permission denied',
  Z_DATA_ERROR: 'what was packed with gzip is broken',
}

function unreadable(file: string, error: unknown): SwitchbackError {
  const { code, message } = error as NodeJS.ErrnoException
  return new SwitchbackError('FILE_UNREADABLE', { file, reason: (code && REASONS[code]) || message }, error)
}
