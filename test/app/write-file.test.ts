import assert from 'node:assert/strict'
import { lstatSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { type Files, makeTemporaryFolder, writeFailure, writeNamedFile, writeNewFile } from '../../src/app/write-file.ts'
import { SwitchbackError } from '../../src/model/errors.ts'

const folder = mkdtempSync(join(tmpdir(), 'switchback-write-'))
after(() => rmSync(folder, { recursive: true, force: true }))

const LEFT = { left: 'Nothing was changed.' }
const TEXT = 'a text that is written whole'

/** Files in memory, of which the nth operation fails; `seen` has what a process that was killed after each would have left in `file`. */
function failingAt(nth: number, code: string, file: string) {
  const held = new Map<string, string>()
  const seen: (string | undefined)[] = []
  let n = 0
  const step = (half: (() => void) | null, act: () => void) => {
    if (n++ === nth) {
      half?.()
      seen.push(held.get(file))
      throw Object.assign(new Error(code), { code })
    }
    act()
    seen.push(held.get(file))
  }
  const files: Files = {
    write: (name, text) => {
      if (held.has(name)) throw Object.assign(new Error('there'), { code: 'EEXIST' })
      step(
        () => held.set(name, text.slice(0, 5)),
        () => held.set(name, text),
      )
    },
    link: (from, to) => {
      if (held.has(to)) throw Object.assign(new Error('there'), { code: 'EEXIST' })
      step(null, () => held.set(to, held.get(from)!))
    },
    rename: (from, to) => {
      step(null, () => held.set(to, held.get(from)!))
      held.delete(from)
    },
    remove: (name) => {
      held.delete(name)
      seen.push(held.get(file))
    },
  }
  return { files, held, seen }
}

for (const [code, says] of [
  ['ENOSPC', /no space is left/],
  ['EDQUOT', /quota/],
  ['EACCES', /permission denied/],
  ['EROFS', /read-only/],
] as const) {
  test(`${code} at any step leaves no half file and nothing beside it, not even for a moment, and one error says why`, () => {
    for (const write of [writeNewFile, writeNamedFile]) {
      for (let nth = 0; nth < 2; nth++) {
        const file = join(folder, 'nowhere', 'x')
        const { files, held, seen } = failingAt(nth, code, file)
        assert.throws(
          () => write(file, TEXT, LEFT, files),
          (error: unknown) => {
            assert.ok(error instanceof SwitchbackError)
            assert.deepEqual([error.code, error.details['file'], error.details['left']], ['FILE_NOT_WRITTEN', file, LEFT.left])
            assert.match(error.message, says)
            return true
          },
        )
        assert.deepEqual([...held], [], `${write.name}, operation ${nth}`)
        assert.ok(seen.every((text) => text === undefined))
      }
    }
  })
}

test('a file that is there stays as it is: a new one is refused, a named one is exchanged whole', () => {
  const file = join(folder, 'there')
  writeFileSync(file, 'old')
  assert.throws(() => writeNewFile(file, TEXT, LEFT), { code: 'FILE_NOT_WRITTEN', message: /there already/ })
  assert.equal(readFileSync(file, 'utf8'), 'old')
  const full: Files = { ...failingAt(0, 'ENOSPC', file).files }
  assert.throws(() => writeNamedFile(file, TEXT, LEFT, full), { code: 'FILE_NOT_WRITTEN' })
  assert.equal(readFileSync(file, 'utf8'), 'old', 'a full disk takes no certificate away')
  writeNamedFile(file, TEXT, LEFT)
  assert.equal(readFileSync(file, 'utf8'), TEXT)
  assert.deepEqual(readdirSync(folder), ['there'])
})

test('a secret is made with its mode, a link is followed, a store without hard links takes the file too', () => {
  const inner = join(folder, 'inner')
  mkdirSync(inner)
  writeNewFile(join(inner, 'key'), TEXT, { ...LEFT, mode: 0o600 })
  assert.equal(statSync(join(inner, 'key')).mode & 0o777, 0o600)
  symlinkSync(join(inner, 'key'), join(inner, 'link'))
  writeNamedFile(join(inner, 'link'), 'new', LEFT)
  assert.deepEqual([lstatSync(join(inner, 'link')).isSymbolicLink(), readFileSync(join(inner, 'key'), 'utf8')], [true, 'new'])
  const { files, held } = failingAt(1, 'EPERM', '/a/b')
  writeNewFile('/a/b', TEXT, LEFT, files)
  assert.deepEqual([...held], [['/a/b', TEXT]])
})

test('a device is written to and not replaced; a full one is one error', { skip: process.platform !== 'linux' }, () => {
  assert.throws(() => writeNamedFile('/dev/full', TEXT, LEFT), { code: 'FILE_NOT_WRITTEN', message: /no space is left/ })
  assert.equal(statSync('/dev/full').isCharacterDevice(), true)
  writeNamedFile('/dev/null', TEXT, LEFT)
  assert.equal(statSync('/dev/null').isCharacterDevice(), true)
})

test('a temporary folder that cannot be made, and what initdb says of a full disk, are the same one error', () => {
  const before = process.env['TMPDIR']
  process.env['TMPDIR'] = join(folder, 'not there')
  try {
    assert.throws(() => makeTemporaryFolder('switchback-x-'), { code: 'FILE_NOT_WRITTEN', message: /its folder is not there/ })
  } finally {
    if (before === undefined) delete process.env['TMPDIR']
    else process.env['TMPDIR'] = before
  }
  const said = 'FATAL:  could not write to file "base/4/3456_vm": No space left on device\nchild process exited with exit code 1'
  assert.match(String(writeFailure('/tmp/pg', said)?.message), /\/tmp\/pg cannot be written: no space left on device/)
  assert.equal(writeFailure('/tmp/pg', 'FATAL: lock file "postmaster.pid" already exists'), null)
})
