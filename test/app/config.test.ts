import assert from 'node:assert/strict'
import { test } from 'node:test'
import { checkConfig } from '../../src/app/load-config.ts'

const CONFIG = {
  migration: 'm',
  source: { urlEnv: 'URL' },
  target: { kind: 'memory', port: 1 },
  tables: { 'public.t': { partitionKey: 'id' } },
}

test('a key that the configuration does not have is refused by its name and place, a known one without effect is not', () => {
  const problem = (more: object) => {
    try {
      checkConfig({ ...CONFIG, ...more }, 'switchback.config.ts')
      return 'accepted'
    } catch (error) {
      return (error as Error).message
    }
  }
  assert.equal(problem({ source: { urlEnv: 'URL', standbyLostMs: 30_000 } }), 'accepted')
  assert.match(problem({ gateway: { adminPort: 9_000 } }), /switchback\.config\.ts is not valid: gateway: .*"adminPort"/)
  assert.match(problem({ gateway: { limits: { parkedMax: 1 } } }), /gateway\.limits: .*"parkedMax"/)
  assert.match(problem({ targets: {} }), /the default export: .*"targets"/)
})
