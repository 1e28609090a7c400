import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { test } from 'node:test'
import { MUTATIONS } from './mutations.ts'
import { patched } from './patched.ts'

const ROOT = resolve(import.meta.dirname, '../..')

test('each planted bug finds its place exactly once, and changes it', () => {
  assert.ok(MUTATIONS.length >= 30, `${MUTATIONS.length} mutations`)
  assert.equal(new Set(MUTATIONS.map(({ name }) => name)).size, MUTATIONS.length)
  for (const { name, edits } of MUTATIONS) {
    for (const edit of edits) {
      const text = readFileSync(join(ROOT, edit.file), 'utf8')
      assert.notEqual(patched(text, edit), text, name)
    }
  }
})

test('a patch that matches nowhere, or twice, is refused', () => {
  assert.throws(() => patched('a b', { file: 'x', find: 'c', put: 'd' }), /0 places match/)
  assert.throws(() => patched('a a', { file: 'x', find: 'a', put: 'd' }), /2 places match/)
})
