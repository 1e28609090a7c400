// Promises: a copy of the sources with a mutation in it, to be run by a process of its own; the sources themselves stay as they are.
import { cpSync, existsSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import type { Mutation } from './mutation.ts'

/** Of the package: this module may be the built one. */
const ROOT = dirname(findPackage(import.meta.dirname))
/** What a simulation is made of. */
const COPIED = ['src', 'test/simulation', 'test/commit', 'test/support', 'package.json', 'tsconfig.json']

function findPackage(folder: string): string {
  const path = join(folder, 'package.json')
  return existsSync(path) ? path : findPackage(dirname(folder))
}

export interface PatchedCopy extends Disposable {
  readonly folder: string
}

/** Throws where an edit's text is not there exactly once. */
export function patchedCopy(mutation: Mutation): PatchedCopy {
  const folder = mkdtempSync(join(tmpdir(), 'switchback-mutation-'))
  const remove = () => rmSync(folder, { recursive: true, force: true })
  try {
    for (const part of COPIED) cpSync(join(ROOT, part), join(folder, part), { recursive: true })
    symlinkSync(join(ROOT, 'node_modules'), join(folder, 'node_modules'))
    for (const edit of mutation.edits) {
      const path = join(folder, edit.file)
      writeFileSync(path, patched(readFileSync(path, 'utf8'), edit))
    }
  } catch (error) {
    remove()
    throw error
  }
  return { folder, [Symbol.dispose]: remove }
}

export function patched(text: string, { file, find, put }: Mutation['edits'][number]): string {
  const found = text.split(find).length - 1
  if (found !== 1) throw new Error(`${file}: ${found} places match, 1 expected: ${find}`)
  return text.replace(find, () => put)
}
