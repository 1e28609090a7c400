import assert from 'node:assert/strict'
import { existsSync, readFileSync } from 'node:fs'
import { resolve } from 'node:path'
import { test } from 'node:test'
import { ROOT } from '../../docs/generate.ts'

const read = (path: string) => readFileSync(resolve(ROOT, path), 'utf8')
const PAGE = read('docs/internals/faults.md')

/** What the page says of each row, in order: a test's file and name, or why there is none. */
function listed(): Map<number, string[]> {
  const rows = new Map<number, string[]>()
  let lines: string[] = []
  for (const line of PAGE.slice(PAGE.indexOf('## Which test covers which row')).split('\n')) {
    const row = /^- \*\*(\d+)\*\*$/.exec(line)
    if (row !== null) {
      assert.equal(rows.has(Number(row[1])), false, `row ${row[1]} is there twice`)
      lines = []
      rows.set(Number(row[1]), lines)
    } else if (line.startsWith('  - ')) lines.push(line.slice(4))
  }
  return rows
}

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
  const list = listed()
  assert.deepEqual([...list.keys()], rows)
  assert.deepEqual(
    [...list].filter(([, lines]) => lines.length === 0).map(([row]) => row),
    [],
  )
})

test('every test that the faults name exists, in the file that they name', () => {
  const missing: string[] = []
  const names = new Map<string, Set<string>>()
  for (const [row, lines] of listed()) {
    for (const line of lines) {
      if (/^not covered: .{10,}/.test(line)) continue
      const [, file, name] = /^`([\w./-]+)`: (.+)$/.exec(line) ?? assert.fail(`row ${row}: ${line}`)
      const path = `test/${file}`
      if (!names.has(path)) names.set(path, existsSync(resolve(ROOT, path)) ? namesIn(path) : new Set())
      if (!names.get(path)!.has(name!)) missing.push(`row ${row}: ${file}: ${name}`)
    }
  }
  assert.deepEqual(missing, [])
  assert.ok(names.size > 30, `${names.size} files are named`)
})
