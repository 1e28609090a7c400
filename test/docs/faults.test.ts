import assert from 'node:assert/strict'
import { existsSync, readFileSync } from 'node:fs'
import { resolve } from 'node:path'
import { test } from 'node:test'
import { faultRows } from '../../docs/fault-rows.ts'
import { ROOT } from '../../docs/generate.ts'

const read = (path: string) => readFileSync(resolve(ROOT, path), 'utf8')
const PAGE = read('docs/internals/faults.md')

/** Names of a file's tests, as the page writes them: what is put into a template is a dot. */
function namesIn(file: string): Set<string> {
  const calls = read(file).matchAll(/\btest\(\s*(?:'((?:[^'\\]|\\.)*)'|"((?:[^"\\]|\\.)*)"|`((?:[^`\\]|\\.)*)`)/g)
  return new Set(
    [...calls].map(([, single, double, template]) =>
      (single ?? double ?? template!.replace(/\$\{(?:[^{}`]|`[^`]*`)*\}/g, '…')).replaceAll("\\'", "'"),
    ),
  )
}

test('every row of the faults says which tests cover it, or why none does', () => {
  const rows = [...PAGE.matchAll(/^\| (\d+) \|/gm)].map((match) => Number(match[1]))
  assert.ok(rows.length >= 73)
  const list = faultRows(PAGE)
  assert.deepEqual(
    list.map(({ row }) => row),
    rows,
  )
  assert.deepEqual(
    list.filter(({ tests, notCovered }) => tests.length + notCovered.length === 0).map(({ row }) => row),
    [],
  )
})

test('every test that the faults name exists, in the file that they name', () => {
  const missing: string[] = []
  const names = new Map<string, Set<string>>()
  for (const { row, tests } of faultRows(PAGE)) {
    for (const { file, name } of tests) {
      const path = `test/${file}`
      if (!names.has(path)) names.set(path, existsSync(resolve(ROOT, path)) ? namesIn(path) : new Set())
      if (!names.get(path)!.has(name)) missing.push(`row ${row}: ${file}: ${name}`)
    }
  }
  assert.deepEqual(missing, [])
  assert.ok(names.size > 30, `${names.size} files are named`)
})
