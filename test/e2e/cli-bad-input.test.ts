// Promises: each bad input is one clear error (what, what was left as it was, what to do) on standard error, exit code 2, and nothing
// changed in PostgreSQL or in the folder; under --json the error is the one object on standard output. The real program, a real
// PostgreSQL; as a process of its own each command once, and wherever the process itself is what fails.
import assert from 'node:assert/strict'
import { chmodSync, mkdirSync, symlinkSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { describe, test } from 'node:test'
import pg from 'pg'
import { freePort } from '../../src/app/embedded/free-port.ts'
import { startEmbeddedPostgres } from '../../src/app/embedded/postgres.ts'
import { COMMANDS } from '../../src/cli/commands.ts'
import { serveMemoryTarget } from '../../src/targets/memory/server.ts'
import { eventually } from '../support/eventually.ts'
import { ACCOUNTS, type Ended, objectOf, type Place, place, TABLES } from './cli-place.ts'

const LEFT_ALONE = /Nothing (more )?(was|is) (changed|compared|written)|The stores were compared and not changed/

/** Exit code 2, one error with its code, that says what was left and what to do; nothing is there that was not before. */
async function refused(at: Place, ended: Ended, code: string, says: RegExp, left: readonly string[] = []): Promise<void> {
  assert.equal(ended.exitCode, 2, `${ended.stdout}${ended.stderr}`)
  assert.match(ended.stderr, new RegExp(`^error ${code}: `, 'm'))
  assert.match(ended.stderr, says)
  assert.match(ended.stderr, LEFT_ALONE)
  assert.equal(ended.stderr.match(/^error /gm)!.length, 1, ended.stderr)
  assert.doesNotMatch(ended.stderr, /\n {4}at /, 'no stack for an error that has a name')
  assert.deepEqual(await at.left(), left)
}

async function refusedJson(at: Place, ended: Ended, code: string, says: RegExp, left: readonly string[] = []): Promise<void> {
  await refused(at, ended, code, says, left)
  const { error } = objectOf(ended) as { error: { code: string; message: string; remedy: string } }
  assert.equal(error.code, code)
  assert.match(error.message, says)
  assert.match(error.remedy, LEFT_ALONE)
}

describe('a move that cannot be made is refused by init', () => {
  const cases: readonly (readonly [name: string, sql: string, tables: string, says: RegExp])[] = [
    ['an unknown table', ACCOUNTS, `${TABLES}, 'public.nowhere': { partitionKey: 'id' }`, /TABLE_UNKNOWN.*public\.nowhere/],
    [
      'a key that is not in every mapped table',
      `${ACCOUNTS} create table public.logs (id int8 primary key)`,
      `${TABLES}, 'public.logs': { partitionKey: 'account_id' }`,
      /PARTITION_KEY_UNKNOWN.*public\.logs.*account_id/,
    ],
    [
      'a table without usable replica identity',
      `${ACCOUNTS} alter table public.entries replica identity nothing`,
      TABLES,
      /REPLICA_IDENTITY_UNUSABLE.*public\.entries/,
    ],
    [
      'a partition key outside the replica identity',
      `${ACCOUNTS} alter table public.entries alter n set not null; create unique index by_n on public.entries (n);
       alter table public.entries replica identity using index by_n`,
      TABLES,
      /REPLICA_IDENTITY_UNUSABLE.*public\.entries/,
    ],
    [
      'a type that does not round-trip',
      `${ACCOUNTS} create type public.mood as enum ('ok'); alter table public.accounts add mood public.mood`,
      TABLES,
      /mood/,
    ],
    ['row-level security', `${ACCOUNTS} alter table public.accounts enable row level security`, TABLES, /ROW.*public\.accounts/],
  ]
  for (const [name, sql, tables, says] of cases) {
    test(`${name}: named, exit 2, nothing changed`, async () => {
      await using at = await place(sql, { tables })
      await refusedJson(at, await at.run(['init', '--json']), 'MOVE_BLOCKED', says)
    })
  }

  test('a role without the replication right: named, exit 2, nothing changed', async () => {
    await using at = await place(ACCOUNTS)
    const role = `plain_${at.db.name}`
    await at.db.query(`create role ${role} login password 'p' createrole; grant create on database ${at.db.name} to ${role};
      grant select on all tables in schema public to ${role}`)
    const url = at.db.url.replace(/\/\/[^@]+@/, `//${role}:p@`)
    await refusedJson(at, await at.run(['init', '--json'], { SOURCE_URL: url }), 'MOVE_BLOCKED', /NO_REPLICATION_RIGHT.*may not replicate/)
    await at.db.query(`drop owned by ${role}; drop role ${role}`)
  })

  test('wal_level that is not logical, and a standby that nobody named: named, exit 2, nothing changed', async () => {
    await using server = await startEmbeddedPostgres({ settings: { wal_level: 'replica' } })
    await using at = await place(ACCOUNTS)
    const admin = new pg.Client({ connectionString: server.url() })
    await admin.connect()
    await admin.query(ACCOUNTS)
    const standby = await physicalStandby(server.url(), 'second')
    try {
      const ended = await at.run(['init', '--json'], { SOURCE_URL: server.url() })
      await refusedJson(at, ended, 'MOVE_BLOCKED', /WAL_LEVEL.*wal_level is replica/)
      assert.match(ended.stderr, /STANDBY_NOT_NAMED.*"second"/)
      const { rows } = await admin.query(`select nspname from pg_namespace where nspname = 'switchback'`)
      assert.deepEqual(rows, [])
    } finally {
      standby.end()
      await admin.end()
    }
  })
})

/** A walsender that streams as a standby's would, by the protocol itself. */
async function physicalStandby(url: string, name: string): Promise<{ end(): void }> {
  const client = new pg.Client({ connectionString: url, application_name: name, ...({ replication: 'true' } as object) })
  client.on('error', () => undefined)
  await client.connect()
  const { rows } = await client.query<{ xlogpos: string }>('IDENTIFY_SYSTEM')
  client.query(`START_REPLICATION ${rows[0]!.xlogpos}`).catch(() => undefined)
  const watch = new pg.Client({ connectionString: url })
  await watch.connect()
  await eventually(
    async () => (await watch.query(`select from pg_stat_replication where application_name = $1 and state = 'streaming'`, [name])).rowCount,
    'the standby streams',
  )
  await watch.end()
  return { end: () => (client as unknown as { connection: { stream: { destroy(): void } } }).connection.stream.destroy() }
}

describe('a place that cannot be reached or written', () => {
  test('PostgreSQL does not answer, refuses the password, has no such database, or its connection string is none', async () => {
    await using at = await place(ACCOUNTS)
    const port = await freePort()
    const away = { SOURCE_URL: `postgres://u:secret-word@127.0.0.1:${port}/d` }
    const [gone, wrong, other, none, unset] = await Promise.all([
      at.run(['init', '--json'], away),
      at.run(['init', '--json'], { SOURCE_URL: at.db.url.replace(/:[^:@]+@/, ':secret-word@') }),
      at.run(['init', '--json'], { SOURCE_URL: `${at.db.url}_gone` }),
      at.run(['init', '--json'], { SOURCE_URL: 'host=secret-word' }),
      at.run(['init', '--json'], { SOURCE_URL: '' }),
    ])
    await refusedJson(at, gone!, 'SOURCE_UNREACHABLE', new RegExp(`127.0.0.1:${port}`))
    await refusedJson(at, wrong!, 'SOURCE_REFUSED', /password authentication failed/)
    await refusedJson(at, other!, 'SOURCE_UNREACHABLE', /does not exist/)
    await refusedJson(at, none!, 'CONNECTION_STRING_INVALID', /SOURCE_URL/)
    await refusedJson(at, unset!, 'SECRET_MISSING', /SOURCE_URL/)
    for (const ended of [gone, wrong, other, none]) assert.doesNotMatch(`${ended!.stdout}${ended!.stderr}`, /secret-word/)
  })

  test('a target that does not answer stops backfill, gateway and controller before anything is made; so do credentials that are not set', async () => {
    await using at = await place(ACCOUNTS)
    assert.equal((await at.run(['init'])).exitCode, 0)
    const left = await at.left()
    const [backfill, gateway, controller] = await Promise.all([
      at.run(['backfill', '--json']),
      at.process(['gateway', '--port', '0', '--json']),
      at.process(['controller', '--json']),
    ])
    for (const ended of [backfill, gateway, controller])
      await refusedJson(at, ended!, 'TARGET_UNREACHABLE', /127\.0\.0\.1:9.*ECONNREFUSED/, left)
    await using dynamo = await place(ACCOUNTS, { target: `{ kind: 'dynamodb', region: 'local', endpoint: 'http://127.0.0.1:9' }` })
    assert.equal((await dynamo.run(['init'])).exitCode, 0)
    await refusedJson(dynamo, await dynamo.run(['backfill', '--json']), 'SECRET_MISSING', /AWS_ACCESS_KEY_ID/, left)
  })

  test('a database in which Switchback is not installed', async () => {
    await using at = await place(ACCOUNTS)
    await refusedJson(at, await at.run(['status', '--json']), 'NOT_INSTALLED', /not in this database/)
    await refused(at, await at.run(['backfill']), 'NOT_INSTALLED', /switchback init/)
  })

  test('a port in use', async () => {
    await using target = await serveMemoryTarget()
    await using at = await place(ACCOUNTS, { target: `{ kind: 'memory', port: ${target.port} }` })
    assert.equal((await at.run(['init'])).exitCode, 0)
    const left = await at.left()
    const server = createServer().listen(0, '127.0.0.1')
    await new Promise((resolve) => server.once('listening', resolve))
    const { port } = server.address() as { port: number }
    try {
      const ended = await at.process(['gateway', '--port', String(port), '--json'])
      await refusedJson(at, ended, 'PORT_UNAVAILABLE', new RegExp(`:${port} \\(EADDRINUSE\\)`), left)
    } finally {
      server.close()
    }
  })

  test('init that cannot write its configuration or its key changes nothing, and leaves no half file', async () => {
    await using at = await place(ACCOUNTS, { more: `signingKeyFile: 'missing/switchback.key'` })
    await refusedJson(at, await at.run(['init', '--json']), 'FILE_NOT_WRITTEN', /switchback\.key.*folder is not there/)
    const asked = ['init', '--url-env', 'SOURCE_URL', '--json', '--config']
    await refusedJson(at, await at.run([...asked, 'missing/c.ts']), 'FILE_NOT_WRITTEN', /c\.ts.*folder is not there/)
    await refusedJson(at, await at.run([...asked, '/dev/full']), 'CONFIG_INVALID', /not a file/)
    if (process.getuid?.() !== 0) {
      mkdirSync(join(at.folder, 'closed'))
      chmodSync(join(at.folder, 'closed'), 0o555)
      await refused(at, await at.run([...asked, 'closed/c.ts']), 'FILE_NOT_WRITTEN', /permission denied/, ['file closed'])
    }
  })

  test('a full disk under PostgreSQL: init leaves nothing, backfill goes on when there is room', async () => {
    await using target = await serveMemoryTarget()
    await using at = await place(ACCOUNTS, { target: `{ kind: 'memory', port: ${target.port} }`, more: `signingKeyFile: 'switchback.key'` })
    const full = (kind: string) => `create function public.full() returns ${kind} language plpgsql as $$ begin
      raise exception using errcode = '53100', message = 'could not extend file "base/1/2": No space left on device'; end $$;`
    await at.db.query(
      `${full('event_trigger')} create event trigger no_room on ddl_command_end when tag in ('CREATE INDEX') execute function public.full()`,
    )
    const ended = await at.run(['init', '--json'])
    await refusedJson(at, ended, '53100', /No space left on device/, ['event trigger no_room'])
    await at.db.query('drop event trigger no_room; drop function public.full()')
    assert.equal((await at.run(['init'])).exitCode, 0)

    await at.db.query(`insert into public.accounts select n, 'x' from generate_series(1, 50) n`)
    await at.db.query(
      `${full('trigger')} create trigger no_room before update on switchback.backfill_range for each row execute function public.full()`,
    )
    const stopped = await at.run(['backfill', '--json'])
    assert.equal(stopped.exitCode, 2, stopped.stderr)
    assert.match(
      stopped.stderr,
      /^error 53100: .*No space left on device\n {2}Nothing was changed by the statement that was refused\. Make room/m,
    )
    await at.db.query('drop trigger no_room on switchback.backfill_range')
    const { exitCode, stdout } = await at.run(['backfill', '--json'])
    assert.deepEqual([exitCode, (JSON.parse(stdout) as { rows: number }).rows], [0, 50])
  })

  test('a full disk under standard output is an error, a reader that has gone is none', {
    skip: process.platform !== 'linux',
  }, async () => {
    await using at = await place(ACCOUNTS)
    const full = await shell(at, '"$@" > /dev/full', ['--help'])
    assert.equal(full.exitCode, 2)
    assert.match(full.stderr, /error OUTPUT_FAILED: .*ENOSPC/)
    const gone = await shell(at, '{ "$@"; echo "exit $?" >&2; } | true', ['--help'])
    assert.match(gone.stderr, /^exit 0$/m)
  })
})

async function shell(at: Place, script: string, args: readonly string[]): Promise<Ended> {
  const { switchback } = await import('../../examples/ledger/processes.ts')
  const { execFile } = await import('node:child_process')
  const [command, argv] = switchback(args)
  return new Promise((resolve) => {
    const child = execFile('sh', ['-c', script, 'sh', command, ...argv], { cwd: at.folder, env: at.env }, (_, stdout, stderr) =>
      resolve({ exitCode: child.exitCode, stdout, stderr }),
    )
  })
}

describe('a command line or a configuration that makes no sense', () => {
  const USAGE: readonly (readonly [args: string, says: RegExp])[] = [
    ['status --frobnicate', /unknown option '--frobnicate'/],
    ['frobnicate', /unknown command 'frobnicate'/],
    ['gateway --port 70000', /whole number from 0 to 65535/],
    ['backfill --workers none', /whole number from 1 to 256/],
    ['readonly perhaps', /Allowed choices are on, off/],
    ['uninstall', /--confirm/],
    ['status extra', /too many arguments/],
  ]
  test('is a usage error', async () => {
    await using at = await place(ACCOUNTS)
    for (const [args, says] of USAGE) await refusedJson(at, await at.run([...args.split(' '), '--json']), 'USAGE', says)
  })

  test('which keys are meant must be clear', async () => {
    await using at = await place(ACCOUNTS)
    assert.equal((await at.run(['init'])).exitCode, 0)
    const left = await at.left()
    const selections = [
      'start 0%',
      'start 101%',
      'start five',
      'start',
      'advance --slots 9-3',
      'advance --slots 0-4096',
      'start 5% --key 1',
    ]
    for (const selection of selections) {
      const ended = await at.run(['canary', ...selection.split(' '), '--json'])
      await refusedJson(at, ended, 'SELECTION_INVALID', /slots|share|one of/, left)
    }
    await refusedJson(at, await at.run(['canary', 'start', '--key', 'abc', '--json']), 'KEY_INVALID', /"abc"/, left)
    for (const [plan, says] of [
      ['5%,1%', /step 2 \(1 %\) is not larger/],
      ['5%:soon', /"5%:soon" is no step/],
      ['101%', /step 1 has 101 %/],
    ] as const)
      for (const more of [[], ['--dry-run']])
        await refusedJson(at, await at.run(['canary', 'run', plan, ...more, '--json']), 'RAMP_INVALID', says, left)
    await refusedJson(at, await at.run(['canary', 'run', 'none.json', '--json']), 'FILE_UNREADABLE', /none\.json/, left)
    await refusedJson(at, await at.run(['rollback', '--slots', 'x', '--json']), 'SELECTION_INVALID', /"x"/, left)
    await refusedJson(at, await at.run(['uninstall', '--confirm', 'other', '--json']), 'CONFIRM_MISMATCH', /other/, left)
  })

  test('a ramp, which goes on by the word of the judge alone, needs the judge', async () => {
    await using at = await place(ACCOUNTS, { more: 'judge: { enabled: false }' })
    assert.equal((await at.run(['init'])).exitCode, 0)
    const left = await at.left()
    await refusedJson(at, await at.run(['canary', 'run', '--json']), 'RAMP_WITHOUT_JUDGE', /judge\.enabled is false/, left)
    assert.equal((await at.run(['canary', 'run', '--dry-run', '--json'])).exitCode, 0)
  })

  test('no configuration, a broken one, one with an unknown field, one with a secret in it', async () => {
    await using none = await place(ACCOUNTS, { config: null })
    await refusedJson(none, await none.run(['status', '--json']), 'CONFIG_MISSING', /switchback\.config\.ts/)
    const broken: readonly (readonly [config: string, says: RegExp])[] = [
      ['export default {', /Unexpected token/],
      ['throw new Error("on purpose")', /on purpose/],
      ['export default 7', /default export/],
      [`export default { migration: 'm', source: { url: 'x' }, target: ${`{ kind: 'memory', port: 1 }`}, tables: {} }`, /source/],
      [`export default { migration: 'M-1', source: { urlEnv: 'postgres://u:p@h/d' }, target: { kind: 'oracle' }, tables: {} }`, /urlEnv/],
    ]
    for (const [i, [config]] of broken.entries()) writeFileSync(join(none.folder, `${i}.ts`), config)
    const left = await none.left()
    for (const [i, [, says]] of broken.entries())
      await refusedJson(none, await none.run(['status', '--config', `${i}.ts`, '--json']), 'CONFIG_INVALID', says, left)
  })

  test('every command has --help, which costs nothing and exits 0', async () => {
    await using at = await place(ACCOUNTS, { config: null })
    for (const command of await everyCommand()) {
      const { exitCode, stdout, stderr } = await at.run([...command, '--help'])
      assert.deepEqual([exitCode, stderr], [0, ''])
      assert.ok(stdout.startsWith(`Usage: switchback ${command.join(' ')} `), stdout)
      assert.match(stdout, /--json/)
    }
    assert.equal((await at.run([])).exitCode, 2)
    assert.match((await at.run(['canary', '--help'])).stdout, /^Usage: switchback canary /)
    assert.match((await at.run(['--version'])).stdout, /^\d+\.\d+\.\d+\n$/)
  })

  test('what no other test runs as a process is one here: the error on both streams, exit code 2', async () => {
    await using at = await place(ACCOUNTS, { config: null })
    const commands = (await everyCommand()).filter((command) => !RUN_ELSEWHERE.has(command.join(' ')))
    await inPairs(commands, async (command) => {
      await refusedJson(
        at,
        await at.process([...command, ...(REQUIRED[command.join(' ')] ?? []), '--frobnicate', '--json']),
        'USAGE',
        /unknown option '--frobnicate'/,
      )
    })
    const help = await at.process(['--help'])
    assert.deepEqual([help.exitCode, help.stderr, help.stdout.startsWith('Usage: switchback ')], [0, '', true])
  })
})

/** Options without which a command says nothing of others. */
const REQUIRED: Readonly<Record<string, readonly string[]>> = { 'judge evidence': ['--export', 'file'] }

/** As processes, by ends-by-command.test.ts and demo-stop.test.ts. */
const RUN_ELSEWHERE = new Set([
  ...[
    'init',
    'gateway',
    'controller',
    'backfill',
    'canary run',
    'canary start',
    'canary advance',
    'rollback',
    'parity',
    'status',
    'finalize',
    'uninstall',
  ],
  'demo',
])

/** Of a group its members. */
async function everyCommand(): Promise<string[][]> {
  const commands = await Promise.all([...COMMANDS.values()].map((make) => make()))
  return commands.flatMap((command) =>
    command.commands.length === 0 ? [[command.name()]] : command.commands.map((member) => [command.name(), member.name()]),
  )
}

test('a second controller stands by, says so, and leads when the first is killed', async () => {
  await using target = await serveMemoryTarget()
  await using at = await place(ACCOUNTS, { target: `{ kind: 'memory', port: ${target.port} }` })
  assert.equal((await at.run(['init'])).exitCode, 0)
  const first = at.start(['controller', '--name', 'first'])
  await first.says(/This controller leads \(token 1\)/)
  const second = at.start(['controller', '--name', 'second'])
  await second.says(/Another controller leads; this one stands by/)
  first.child.kill('SIGKILL')
  await second.says(/This controller leads \(token 2\)/)
  second.child.kill('SIGINT')
  assert.equal((await second.ended).exitCode, 0)
})

test('a certificate that cannot be written is an error after the comparison; a key that is a dangling link is not written through', async () => {
  await using at = await place(ACCOUNTS, { more: `signingKeyFile: 'switchback.key'` })
  symlinkSync('/dev/full/nowhere', join(at.folder, 'switchback.key'))
  await refused(at, await at.run(['init']), 'FILE_NOT_WRITTEN', /switchback\.key/, ['file switchback.key'])
})

/** Two at a time, as the machine has two cores. */
async function inPairs<T>(items: readonly T[], work: (item: T) => Promise<void>): Promise<void> {
  const left = [...items]
  const worker = async () => {
    for (let item = left.shift(); item !== undefined; item = left.shift()) await work(item)
  }
  await Promise.all([worker(), worker()])
}
