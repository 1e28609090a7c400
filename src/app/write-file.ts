// Promises: a file is written whole and did not exist before, or is not there at all, and one error says why (a full disk, a right, a
// folder that is missing).
import { rmSync, writeFileSync } from 'node:fs'
import { SwitchbackError } from '../model/errors.ts'

export interface WriteFileOptions {
  readonly mode?: number
  /** What was left as it was, one sentence. */
  readonly left: string
}

/** @throws FILE_NOT_WRITTEN. A file that is there already is left alone. */
export function writeNewFile(file: string, text: string, options: WriteFileOptions): void {
  try {
    writeFileSync(file, text, { flag: 'wx', mode: options.mode ?? 0o644 })
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code
    // Begun and not finished: half a file would be taken for a whole one.
    if (code !== 'EEXIST') rmSync(file, { force: true })
    throw notWritten(file, error, options.left)
  }
}

/** For a file that the user named, which may be there already. @throws FILE_NOT_WRITTEN. */
export function writeNamedFile(file: string, text: string, options: WriteFileOptions): void {
  try {
    writeFileSync(file, text, { mode: options.mode ?? 0o644 })
  } catch (error) {
    throw notWritten(file, error, options.left)
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

function notWritten(file: string, error: unknown, left: string): SwitchbackError {
  const { code, message } = error as NodeJS.ErrnoException
  return new SwitchbackError('FILE_NOT_WRITTEN', { file, reason: (code && REASONS[code]) || message, left }, error)
}
