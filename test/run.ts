// Promises: runs the test files of one suite with node's own runner, a bounded number at a time, and fails if there are none.
import { readdirSync } from 'node:fs'
import { resolve } from 'node:path'
import { run } from 'node:test'
import { spec } from 'node:test/reporters'
import summary from './support/summary.ts'

const SUITES: Record<string, { readonly folders: (name: string) => boolean; readonly concurrency: number; readonly timeoutMs: number }> = {
  unit: { folders: (name) => !name.startsWith('test/fault/'), concurrency: 2, timeoutMs: 240_000 },
  faults: { folders: (name) => name.startsWith('test/fault/'), concurrency: 1, timeoutMs: 900_000 },
}

const [suiteName = 'unit', ...filters] = process.argv.slice(2)
const suite = SUITES[suiteName]
if (suite === undefined) {
  console.error(`no suite ${suiteName}; there are: ${Object.keys(SUITES).join(', ')}`)
  process.exit(2)
}
const files = readdirSync('test', { recursive: true, encoding: 'utf8' })
  .map((name) => `test/${name}`)
  .filter((name) => name.endsWith('.test.ts') && suite.folders(name))
  .filter((name) => filters.length === 0 || filters.some((filter) => name.includes(filter)))
  .sort()
  .map((name) => resolve(name))
if (files.length === 0) {
  console.error(`no test file in suite ${suiteName}${filters.length > 0 ? ` that matches ${filters.join(' ')}` : ''}`)
  process.exit(2)
}
let failures = 0
const events = run({ files, concurrency: suite.concurrency, timeout: suite.timeoutMs })
events.on('test:fail', () => {
  failures++
})
if (process.stdout.isTTY) events.compose(new spec()).pipe(process.stdout)
events.compose(summary).pipe(process.stdout)
process.on('exit', () => {
  if (failures > 0) process.exitCode = 1
})
