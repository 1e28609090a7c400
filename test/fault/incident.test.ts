// Incidents of the demo from its command line to its JSON: the store refuses requests, or dies, under load, and the judge turns the
// traffic back alone (faults.md 30, 60).
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { type TestContext, test } from 'node:test'
import type { IncidentReport } from '../../examples/ledger/incident-report.ts'
import type { IncidentName } from '../../examples/ledger/incidents.ts'
import { switchback } from '../../examples/ledger/processes.ts'

/** Throws where the demo says that it is not ok. */
async function played(t: TestContext, incident: IncidentName): Promise<IncidentReport> {
  const [command, args] = switchback(['demo', '--incident', incident, '--json', '--seed', '7', '--accounts', '300', '--rate', '100'])
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
  const report = JSON.parse(stdout) as IncidentReport
  const { lostWrites, doubledWrites, differences, comparedWith, onsetToVerdictMs, verdictToOffMs } = report
  assert.deepEqual(
    { incident: report.incident, ok: report.ok, failures: report.failures, lostWrites, doubledWrites, differences, comparedWith },
    { incident, ok: true, failures: [], lostWrites: 0, doubledWrites: 0, differences: 0, comparedWith: 'both stores' },
  )
  assert.ok(onsetToVerdictMs !== null && onsetToVerdictMs > 0 && onsetToVerdictMs <= 60_000, `${onsetToVerdictMs} ms`)
  assert.ok(verdictToOffMs !== null, 'the traffic is off')
  assert.ok(report.refusedWrites + report.unknownWrites > 0, 'the fault was felt')
  return report
}

test('INV-2: a store that begins to refuse requests: the judge goes back alone within a minute, and nothing is lost, doubled or different (30)', {
  timeout: 300_000,
}, async (t) => {
  const { detector, parkedSlots, debtSlots, debtPaidMs } = await played(t, 'errors')
  assert.ok(detector === 'errors' || detector === 'error-limit', `${detector}`)
  assert.deepEqual([parkedSlots, debtSlots, debtPaidMs], [0, 0, null])
})

test('INV-2: a store that dies: the judge takes home what can go without it; when it answers again the rest follows, and the debt is paid (26, 60)', {
  timeout: 400_000,
}, async (t) => {
  const { parkedSlots, debtSlots, parkedHomeMs, debtPaidMs } = await played(t, 'dead-target')
  assert.equal(parkedSlots + debtSlots, 1_024)
  assert.ok(debtSlots > 512, `${debtSlots} slots went home without it`)
  assert.ok(parkedHomeMs !== null && debtPaidMs !== null && debtPaidMs > parkedHomeMs, `${parkedHomeMs}, ${debtPaidMs} ms`)
})
