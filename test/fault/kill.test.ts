// Promises: kill -9 of the controller, of either gateway, of the target's process or of PostgreSQL, during a canary and in the middle of
// a flip, under load: service resumes by itself, the keys go home, and nothing is lost, doubled, stale or half (faults.md 2, 3, 4, 45).
import assert from 'node:assert/strict'
import { test } from 'node:test'
import pg from 'pg'
import { checkLedger } from '../../examples/ledger/check.ts'
import { readJournal } from '../../examples/ledger/journal.ts'
import { type LoadProcess, startLoadProcess } from '../../examples/ledger/load-process.ts'
import { type CommandResult, runCommand, Supervised } from '../../examples/ledger/processes.ts'
import { rowsInDynamo, rowsInPostgres } from '../../examples/ledger/stores.ts'
import { startWorld, type World } from '../../examples/ledger/world.ts'
import { eventually } from '../support/eventually.ts'

const RATE = 60
const RESUMES_MS = 30_000
const ENDS_MS = 60_000
/** Acknowledged after a kill before service counts as resumed. */
const WRITES_AFTER = 60

interface Scene {
  readonly world: World
  readonly load: LoadProcess
  readonly processes: ReadonlyMap<string, Supervised>
}

type Kill = (scene: Scene) => Promise<void>

const process =
  (name: string): Kill =>
  async ({ processes }) => {
    assert.ok(processes.get(name)!.kill(), `${name} runs`)
  }

const VICTIMS: readonly (readonly [name: string, kill: Kill])[] = [
  ['the controller', process('controller')],
  ['the first gateway', process('gateway-1')],
  ['the second gateway', process('gateway-2')],
  ["the target's process", ({ world }) => world.killAndRestartTarget()],
  [
    'PostgreSQL',
    async ({ world }) => {
      await world.postgres.kill()
      await world.postgres.start()
    },
  ],
]

for (const [name, kill] of VICTIMS) {
  test(`kill -9 of ${name} during a canary and in a flip loses nothing, and service resumes`, { timeout: 300_000 }, async (t) => {
    const world = await startWorld({
      accounts: 200,
      durableTarget: true,
      // It would turn the canary back by itself.
      judge: { enabled: false },
      say: () => undefined,
      progress: () => undefined,
      signal: new AbortController().signal,
    })
    try {
      const scene = await begin(world)
      t.diagnostic('canary')
      await insist(scene, ['canary', 'start', '10%'])
      await served(scene)
      await kill(scene)
      await served(scene)
      t.diagnostic('flip')
      await Promise.all([insist(scene, ['canary', 'advance', '60%']), insideFlip(world).then(() => kill(scene))])
      await served(scene)
      t.diagnostic('rollback')
      await insist(scene, ['rollback'])
      await served(scene)
      await judged(scene)
    } finally {
      await world.close()
    }
  })
}

async function begin(world: World): Promise<Scene> {
  assert.equal((await runCommand(['init'], world.command)).exitCode, 0)
  const [first, second] = world.gatewayPorts
  const processes = new Map(
    [
      ['gateway-1', ['gateway', '--port', String(first), '--name', 'gateway-1']] as const,
      ['gateway-2', ['gateway', '--port', String(second), '--name', 'gateway-2']] as const,
      ['controller', ['controller', '--name', 'controller']] as const,
    ].map(([name, args]) => [name, new Supervised(name, args, world.command)]),
  )
  world.defer(() => Promise.all([...processes.values()].map((each) => each.stop())))
  const load = startLoadProcess({
    urls: world.gatewayUrls,
    ratePerSecond: RATE,
    zipf: 0.9,
    accounts: 200,
    seed: 7,
    journalPath: world.journalPath,
    connectionsPerUrl: 12,
    giveUpMs: RESUMES_MS,
  })
  world.defer(() => load.kill())
  const scene = { world, load, processes }
  await served(scene)
  const backfill = await runCommand(['backfill'], world.command)
  assert.equal(backfill.exitCode, 0, backfill.stderr)
  await eventually(async () => (await runCommand(['status'], world.command)).result['readyForCanary'] === true, 'ready', RESUMES_MS)
  return scene
}

/** Service goes on, or resumes: so many more writes are acknowledged. */
async function served({ load, processes }: Scene): Promise<void> {
  const from = load.acknowledgedWrites
  await eventually(() => load.acknowledgedWrites >= from + WRITES_AFTER, 'writes are acknowledged again', RESUMES_MS).catch((error) => {
    throw new Error(`${error.message}\n${logsOf(processes)}`)
  })
}

/** As an operator would: what a kill made fail is run again, and goes on from where it was. */
async function insist({ world, processes }: Scene, args: readonly string[]): Promise<CommandResult> {
  let last: CommandResult | null = null
  return eventually(
    async () => {
      last = await runCommand(args, world.command)
      return (last.exitCode === 0 || /FLIP_NOTHING_TO_DO|on the (target|source) already/.test(last.stderr)) && last
    },
    `switchback ${args.join(' ')}`,
    ENDS_MS,
  ).catch(() => {
    throw new Error(`switchback ${args.join(' ')}: ${last?.stderr ?? 'no end'}\n${logsOf(processes)}`)
  })
}

async function insideFlip(world: World): Promise<void> {
  const client = new pg.Client({ connectionString: world.databaseUrl })
  client.on('error', () => undefined)
  await client.connect()
  try {
    await eventually(
      async () => (await client.query(`select from switchback.flip where state not in ('cancelled', 'routed')`)).rowCount === 1,
      'a flip is under way',
      ENDS_MS,
    )
  } finally {
    await client.end().catch(() => undefined)
  }
}

async function judged({ world, load, processes }: Scene): Promise<void> {
  const counts = await load.stop()
  const parity = await runCommand(['parity', '--full'], world.command)
  assert.deepEqual(
    { exit: parity.exitCode, differences: parity.result['differences'], notChecked: parity.result['rowsNotChecked'] },
    { exit: 0, differences: 0, notChecked: 0 },
    `${parity.stderr}\n${JSON.stringify(parity.result).slice(0, 4_000)}\n${logsOf(processes)}`,
  )
  const writes = readJournal(world.journalPath)
  for (const rows of [
    await rowsInPostgres(world.databaseUrl),
    await rowsInDynamo(world.dynamo, (item) => item['_sb_deleted'] !== undefined),
  ]) {
    const { lost, doubled, unbalanced } = checkLedger(writes, rows)
    assert.deepEqual({ lost, doubled, unbalanced }, { lost: [], doubled: [], unbalanced: [] })
  }
  const { staleReads, halfReads } = counts
  assert.deepEqual({ staleReads, halfReads }, { staleReads: 0, halfReads: 0 })
  const client = new pg.Client({ connectionString: world.databaseUrl })
  await client.connect()
  const { rows } = await client.query(
    `select owner, phase, count(*)::int as slots, count(distinct slot)::int as different from switchback.ownership group by 1, 2`,
  )
  await client.end()
  assert.deepEqual(rows, [{ owner: 'source', phase: 'steady', slots: 4096, different: 4096 }])
}

function logsOf(processes: ReadonlyMap<string, Supervised>): string {
  return [...processes.values()].map(({ name, log, restarts }) => `--- ${name}, ${restarts} restarts\n${log.slice(-3_000)}`).join('\n')
}
