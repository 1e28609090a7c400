// An incident of the demo from its command line to its JSON: the store refuses requests under load, and the judge turns the traffic back
// alone (faults.md 30).
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { test } from 'node:test'
import { switchback } from '../../examples/ledger/processes.ts'

test('INV-2: a store that begins to refuse requests: the judge goes back alone within a minute, and nothing is lost, doubled or different (30)', {
  timeout: 300_000,
}, async (t) => {
  const [command, args] = switchback(['demo', '--incident', 'errors', '--json', '--seed', '7', '--accounts', '300', '--rate', '100'])
  const child = spawn(command, args, { stdio: ['ignore', 'pipe', 'pipe'] })
  let [stdout, stderr] = ['', '']
  child.stdout.on('data', (chunk: Buffer) => {
    stdout += chunk.toString('utf8')
  })
  child.stderr.on('data', (chunk: Buffer) => {
    stderr += chunk.toString('utf8')
  })
  const exitCode = await new Promise((resolve) => child.once('close', resolve))
  t.diagnostic(stdout)
  assert.equal(exitCode, 0, `${stdout}\n${stderr}`)
  const { incident, detector, onsetToVerdictMs, verdictToOffMs, lostWrites, doubledWrites, differences, ok, ...more } = JSON.parse(stdout)
  assert.deepEqual(
    { incident, lostWrites, doubledWrites, differences, ok, failures: more.failures, parkedSlots: more.parkedSlots },
    { incident: 'errors', lostWrites: 0, doubledWrites: 0, differences: 0, ok: true, failures: [], parkedSlots: 0 },
  )
  assert.ok(['errors', 'error-limit'].includes(detector), detector)
  assert.ok(onsetToVerdictMs > 0 && onsetToVerdictMs <= 60_000, `${onsetToVerdictMs} ms`)
  assert.ok(typeof verdictToOffMs === 'number', 'the traffic is off')
  assert.ok(more.refusedWrites > 0, 'the fault was felt')
})
