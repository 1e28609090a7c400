// Promises: a file is there whole or not at all, whenever the disk fills up or the process dies, and one error says why (a full disk, a
// right, a folder that is missing).
import { linkSync, mkdtempSync, realpathSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { basename, dirname, join } from 'node:path'
import { SwitchbackError } from '../model/errors.ts'

export interface WriteFileOptions {
  readonly mode?: number
  /** What was left as it was, one sentence. */
  readonly left: string
}

/** What of a file system is used; each throws as node:fs does. */
export interface Files {
  /** Of a file that is not there; through to the disk. */
  write(file: string, text: string, mode: number): void
  link(from: string, to: string): void
  rename(from: string, to: string): void
  remove(file: string): void
}

const DISK: Files = {
  write: (file, text, mode) => writeFileSync(file, text, { flag: 'wx', mode, flush: true }),
  link: linkSync,
  rename: renameSync,
  remove: (file) => rmSync(file, { force: true }),
}

/** File systems without hard links. */
const NO_LINKS: ReadonlySet<string | undefined> = new Set(['EPERM', 'ENOTSUP', 'EOPNOTSUPP', 'ENOSYS', 'EMLINK'])

/** @throws FILE_NOT_WRITTEN. A file that is there already is left alone. */
export function writeNewFile(file: string, text: string, options: WriteFileOptions, files: Files = DISK): void {
  const mode = options.mode ?? 0o644
  written(file, options.left, () =>
    besideIt(file, text, mode, files, (whole) => {
      try {
        files.link(whole, file)
      } catch (error) {
        if (!NO_LINKS.has(codeOf(error))) throw error
        writeOrRemove(file, text, mode, files)
      }
    }),
  )
}

/** For a file that the user named, which may be there already: then the old one stays until the new one is whole. @throws FILE_NOT_WRITTEN. */
export function writeNamedFile(file: string, text: string, options: WriteFileOptions, files: Files = DISK): void {
  written(file, options.left, () => {
    const there = statSync(file, { throwIfNoEntry: false })
    // A pipe or a device is written to, not replaced.
    if (there !== undefined && !there.isFile()) return writeFileSync(file, text)
    const place = there === undefined ? file : realpathSync(file)
    besideIt(place, text, options.mode ?? 0o644, files, (whole) => files.rename(whole, place))
  })
}

/** A folder of its own under the system's temporary one. @throws FILE_NOT_WRITTEN. */
export function makeTemporaryFolder(prefix: string): string {
  const start = join(tmpdir(), prefix)
  return written(start, NOTHING_CHANGED, () => mkdtempSync(start))
}

/** What another program said as it failed to write there; null: it failed for another reason. */
export function writeFailure(file: string, said: string): SwitchbackError | null {
  const reason = ['no space left on device', 'disk quota exceeded', 'permission denied', 'read-only file system'].find((phrase) =>
    said.toLowerCase().includes(phrase),
  )
  return reason === undefined ? null : new SwitchbackError('FILE_NOT_WRITTEN', { file, reason, left: NOTHING_CHANGED })
}

const NOTHING_CHANGED = 'Nothing was changed.'

function besideIt(file: string, text: string, mode: number, files: Files, use: (whole: string) => void): void {
  const whole = join(dirname(file), `.${basename(file)}.${process.pid}.new`)
  try {
    files.write(whole, text, mode)
    use(whole)
  } finally {
    files.remove(whole)
  }
}

function writeOrRemove(file: string, text: string, mode: number, files: Files): void {
  try {
    files.write(file, text, mode)
  } catch (error) {
    // Begun and not finished: half a file would be taken for a whole one.
    if (codeOf(error) !== 'EEXIST') files.remove(file)
    throw error
  }
}

const REASONS: Readonly<Record<string, string>> = {
  ENOSPC: 'no space is left on the disk',
  EDQUOT: 'the disk quota is used up',
  EFBIG: 'the file would be larger than allowed',
  EACCES: 'permission denied',
  EPERM: 'not permitted',
  EROFS: 'the file system is read-only',
  ENOENT: 'its folder is not there',
  ENOTDIR: 'its folder is not a folder',
  EISDIR: 'it is a folder',
  EEXIST: 'it is there already',
}

function written<T>(file: string, left: string, work: () => T): T {
  try {
    return work()
  } catch (error) {
    const code = codeOf(error)
    const reason = (code && REASONS[code]) || (error as Error).message
    throw new SwitchbackError('FILE_NOT_WRITTEN', { file, reason, left }, error)
  }
}

function codeOf(error: unknown): string | undefined {
  return (error as NodeJS.ErrnoException).code
}
