import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { cpSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join, resolve } from 'node:path'
import { test } from 'node:test'

const BIOME = resolve('node_modules/.bin/biome')

/** Files that `npm run lint` refuses for their clocks and their chance. */
function refused(files: Readonly<Record<string, string>>): string[] {
  const folder = mkdtempSync(join(tmpdir(), 'switchback-lint-'))
  try {
    for (const path of ['biome.json', 'test/support/time-and-chance.grit']) cpSync(path, join(folder, path))
    for (const [path, text] of Object.entries(files)) {
      mkdirSync(dirname(join(folder, path)), { recursive: true })
      writeFileSync(join(folder, path), `${text}\n`)
    }
    const args = ['lint', '--only=plugin', '--colors=off', '--max-diagnostics=none', '.']
    const { stdout, stderr } = spawnSync(BIOME, args, { cwd: folder, encoding: 'utf8' })
    assert.match(stdout + stderr, new RegExp(`Checked ${Object.keys(files).length + 2} files`))
    return Object.keys(files).filter((path) => new RegExp(`${path}:\\d+:\\d+ plugin`).test(stdout + stderr))
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}

const FORBIDDEN = [
  'export const a = Date.now()',
  'export const a = Date.now',
  'export const a = new Date()',
  'export const a = Date()',
  'export const a = performance.now()',
  'export const a = Math.random()',
  'export const a = process.hrtime()',
  'export const a = crypto.randomUUID()',
  "import { randomBytes } from 'node:crypto'\nexport const a = () => randomBytes(8)",
  'export const a = AbortSignal.timeout(5)',
  'export const a = () => setTimeout(() => undefined, 5)',
  'export const a = () => globalThis.setInterval(() => undefined, 5)',
  'export const a = () => setImmediate(() => undefined)',
]

test('the lint refuses each clock, timer and source of chance where the simulator runs the code', () => {
  const each = Object.fromEntries(FORBIDDEN.map((text, i) => [`src/flip/f${i}.ts`, text]))
  const folders = ['lib', 'model', 'wire', 'sql', 'commit', 'sync', 'parity'].map((name) => [`src/${name}/any.ts`, FORBIDDEN[0]!])
  const files = { ...each, ...Object.fromEntries(folders) }
  assert.deepEqual(refused(files), Object.keys(files))
})

test('a time that was passed in may be written out, and the edges may look', () => {
  const edges = ['src/lib/clock.ts', 'src/lib/prng.ts', 'src/app/any.ts'].map((path) => [path, FORBIDDEN.join('\n')])
  const passedIn = 'export const a = (ms: number) => new Date(ms).toISOString()'
  assert.deepEqual(refused({ ...Object.fromEntries(edges), 'src/flip/any.ts': passedIn }), [])
})
