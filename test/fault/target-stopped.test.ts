// The target's process stands still under load, with most keys there (faults.md 26, 60): `rollback` brings back what the gateways hold
// without it, names the rest, and the rest goes back when it runs again.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import pg from 'pg'
import { checkLedger } from '../../examples/ledger/check.ts'
import { readJournal } from '../../examples/ledger/journal.ts'
import { startLoadProcess } from '../../examples/ledger/load-process.ts'
import { runCommand, Supervised } from '../../examples/ledger/processes.ts'
import { rowsInPostgres } from '../../examples/ledger/stores.ts'
import { startWorld, type World } from '../../examples/ledger/world.ts'
import { eventually } from '../support/eventually.ts'

const ENDS_MS = 90_000

test('INV-2: with the target stopped under load, a rollback brings back what the gateways hold; nothing is lost when it runs again (26, 60)', {
  timeout: 300_000,
}, async (t) => {
  const world = await startWorld({
    accounts: 200,
    // It would turn the canary back by itself.
    judge: { enabled: false },
    say: () => undefined,
    progress: () => undefined,
    signal: new AbortController().signal,
  })
  let paused = false
  try {
    const processes = await begin(world)
    const load = startLoadProcess({
      urls: world.gatewayUrls,
      ratePerSecond: 60,
      zipf: 0.9,
      accounts: 200,
      seed: 7,
      journalPath: world.journalPath,
      connectionsPerUrl: 12,
      giveUpMs: ENDS_MS,
    })
    world.defer(() => load.kill())
    const served = (more: number, what: string) => {
      const from = load.acknowledgedWrites
      return eventually(() => load.acknowledgedWrites >= from + more, what, ENDS_MS)
    }
    await served(60, 'service begins')
    await insist(world, ['backfill'])
    await eventually(async () => (await runCommand(['status'], world.command)).result['readyForCanary'] === true, 'ready', ENDS_MS)
    await insist(world, ['canary', 'start', '60%'])
    await served(120, 'service goes on with a canary')

    world.pauseTarget()
    paused = true
    const startedMs = performance.now()
    const rollback = runCommand(['rollback'], world.command)
    rollback.catch(() => undefined)
    const step = await eventually(async () => stepOf(world), 'the rollback names what stays', ENDS_MS).catch((error) => {
      throw new Error(logsOf(processes), { cause: error })
    })
    const owners = await ownersOf(world)
    t.diagnostic(`${Math.round(performance.now() - startedMs)} ms: ${JSON.stringify(owners)}; ${step.slice(0, 400)}`)
    // A statement in flight holds its own slot, not those beside it.
    assert.ok(owners.parked > 0 && owners.parked < 200, `${owners.parked} slots stay parked`)
    assert.equal(owners.steadyOnTarget, 0)
    assert.equal(owners.debts, 2_458 - owners.parked)
    await served(60, 'keys that went back are served')

    world.resumeTarget()
    paused = false
    const ended = await rollback
    assert.equal(ended.exitCode, 0, `${ended.stderr}\n${logsOf(processes)}`)
    await insist(world, ['canary', 'start', '10%'])
    assert.equal((await ownersOf(world)).debts, 0, 'the debt is paid before the next canary')
    await insist(world, ['rollback'])
    await served(60, 'service goes on')
    const { staleReads, halfReads } = await load.stop()
    const parity = await runCommand(['parity', '--full'], world.command)
    assert.deepEqual([parity.exitCode, parity.result['differences']], [0, 0], parity.stderr)
    const { lost, doubled, unbalanced } = checkLedger(readJournal(world.journalPath), await rowsInPostgres(world.databaseUrl))
    assert.deepEqual(
      { lost, doubled, unbalanced, staleReads, halfReads },
      { lost: [], doubled: [], unbalanced: [], staleReads: 0, halfReads: 0 },
    )
  } finally {
    if (paused) world.resumeTarget()
    await world.close()
  }
})

async function begin(world: World): Promise<readonly Supervised[]> {
  assert.equal((await runCommand(['init'], world.command)).exitCode, 0)
  const [first, second] = world.gatewayPorts
  const processes = [
    new Supervised('gateway-1', ['gateway', '--port', String(first), '--name', 'gateway-1'], world.command),
    new Supervised('gateway-2', ['gateway', '--port', String(second), '--name', 'gateway-2'], world.command),
    new Supervised('controller', ['controller', '--name', 'controller'], world.command),
  ]
  world.defer(() => Promise.all(processes.map((each) => each.stop())))
  return processes
}

async function insist(world: World, args: readonly string[]): Promise<void> {
  let last = ''
  await eventually(
    async () => {
      const { exitCode, stderr } = await runCommand(args, world.command)
      last = stderr
      return exitCode === 0
    },
    `switchback ${args.join(' ')}`,
    ENDS_MS,
  ).catch(() => assert.fail(`switchback ${args.join(' ')}: ${last}`))
}

async function query(world: World, sql: string): Promise<Record<string, unknown>[]> {
  const client = new pg.Client({ connectionString: world.databaseUrl, query_timeout: 10_000 })
  client.on('error', () => undefined)
  await client.connect()
  try {
    return (await client.query(sql)).rows
  } finally {
    await client.end().catch(() => undefined)
  }
}

async function stepOf(world: World): Promise<string | false> {
  const [job] = await query(world, `select progress->>'step' as step from switchback.job order by id desc limit 1`)
  const step = String(job?.['step'])
  return step.startsWith('the target does not answer') && step
}

async function ownersOf(world: World): Promise<{ readonly parked: number; readonly steadyOnTarget: number; readonly debts: number }> {
  const [row] = await query(
    world,
    `select count(*) filter (where phase = 'parking')::int as parked,
            count(*) filter (where owner = 'target' and phase = 'steady')::int as steady,
            (select count(*) from switchback.debt)::int as debts from switchback.ownership`,
  )
  return { parked: Number(row!['parked']), steadyOnTarget: Number(row!['steady']), debts: Number(row!['debts']) }
}

function logsOf(processes: readonly Supervised[]): string {
  return processes.map(({ name, log, restarts }) => `--- ${name}, ${restarts} restarts\n${log.slice(-3_000)}`).join('\n')
}
