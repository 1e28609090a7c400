// Portals, Flush and texts of several statements on keys that live on the target: answered message by message as PostgreSQL answers
// them on a database of its own (faults.md 31; gateway.md, Plans).
import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import type { FrontendMessage } from '../../src/wire/frontend.ts'
import { type Move, startMove } from '../support/move.ts'
import { type TestDatabase, testDatabase } from '../support/postgres.ts'
import { type RawSession, rawSession } from '../support/raw-session.ts'

const SQL = `
  create table notes (account bigint, id int, n int not null default 0 check (n < 1000), body text, primary key (account, id));
  insert into notes select a, i, i * 10, 'note ' || i from generate_series(1, 3) a, generate_series(1, 5) i;
`

const parse = (sql: string, name = ''): FrontendMessage => ({ kind: 'parse', name, sql, parameterTypes: [] })
const bind = (values: readonly string[] = [], portal = '', statement = ''): FrontendMessage => ({
  kind: 'bind',
  portal,
  statement,
  parameterFormats: [],
  parameters: values.map((value) => Buffer.from(value)),
  resultFormats: [],
})
const execute = (rowsMax = 0, portal = ''): FrontendMessage => ({ kind: 'execute', portal, rowsMax })
const describePortal = (name = ''): FrontendMessage => ({ kind: 'describe', target: 'portal', name })
const closePortal = (name = ''): FrontendMessage => ({ kind: 'close', target: 'portal', name })
const closeStatement = (name: string): FrontendMessage => ({ kind: 'close', target: 'statement', name })
const query = (sql: string): FrontendMessage => ({ kind: 'query', sql })
const sync: FrontendMessage = { kind: 'sync' }
const flush: FrontendMessage = { kind: 'flush' }

const ALL = 'select id, n, body from notes where account = $1 order by id'
const RAISE = 'update notes set n = n + 1 where account = $1 returning id, n'

/** Each is said in one piece; a conversation of several pieces goes on in the same session. */
const CONVERSATIONS: readonly (readonly [name: string, ...pieces: (readonly FrontendMessage[])[]])[] = [
  ['rows two at a time', [parse(ALL), bind(['1']), execute(2), execute(2), execute(2), sync]],
  ['as many rows as there are, and once more', [parse(ALL), bind(['1']), execute(5), execute(5), execute(5), sync]],
  ['some rows, then the rest', [parse(ALL), bind(['1']), describePortal(), execute(3), execute(0), sync]],
  ['all rows, then again', [parse(ALL), bind(['1']), execute(0), execute(0), execute(1), sync]],
  ['no row at all', [parse('select id from notes where account = $1 and id = 99'), bind(['1']), execute(1), execute(1), sync]],
  [
    'Flush after each message',
    [parse(ALL), flush, bind(['1']), flush, describePortal(), flush, execute(2), flush, execute(0), flush, sync],
  ],
  ['Flush alone, and twice', [flush, flush, parse(ALL), bind(['1']), execute(1), flush, flush, sync]],
  ['a portal is gone after Sync', [parse(ALL), bind(['1']), execute(2), sync], [execute(2), sync]],
  [
    'portals by name in a transaction, in turn, one closed',
    [query('begin')],
    [parse(ALL, 'all'), bind(['1'], 'one', 'all'), bind(['1'], 'two', 'all'), execute(2, 'one'), sync],
    [execute(1, 'two'), execute(2, 'one'), execute(1, 'two'), flush, closePortal('one'), execute(1, 'two'), sync],
    [query('rollback')],
  ],
  ['a portal that was bound twice', [query('begin')], [parse(ALL), bind(['1'], 'p'), bind(['1'], 'p'), sync], [query('rollback')]],
  [
    'a portal sees the rows as they were when it first ran',
    [query('begin')],
    [parse(ALL), bind(['1'], 'p'), execute(1, 'p'), sync],
    [query('update notes set n = 999 where account = 1')],
    [execute(0, 'p'), sync],
    [query('rollback')],
  ],
  ['RETURNING in pieces', [parse(RAISE), bind(['1']), execute(2), execute(2), execute(2), sync]],
  ['RETURNING, all at once', [parse(RAISE), bind(['1']), execute(0), sync]],
  [
    'RETURNING in a first piece only: all of it is done',
    [parse(RAISE), bind(['1']), execute(1), sync],
    [query(`select sum(n) from notes where account = 1`)],
  ],
  [
    'a write without RETURNING runs once a portal',
    [parse('update notes set n = n + 1 where account = $1 and id = 1'), bind(['1']), execute(0), execute(0), sync],
    [query('select n from notes where account = 1 and id = 1')],
  ],
  ['a write with a limit that it does not need', [parse('delete from notes where account = $1 and id = 5'), bind(['1']), execute(1), sync]],
  [
    'an insert with RETURNING, limited',
    [parse(`insert into notes values ($1, 5, 50, 'again') returning id, n`), bind(['1']), execute(1), execute(1), sync],
  ],
  [
    'an error skips to Sync and takes back what came before it',
    [
      parse('update notes set n = 7 where account = $1 and id = 2'),
      bind(['1']),
      execute(0),
      parse('update notes set n = 5000 where account = $1'),
      bind(['1']),
      execute(0),
      parse(ALL),
      bind(['1']),
      execute(0),
      sync,
    ],
    [query('select id, n from notes where account = 1 order by id')],
  ],
  [
    'an error behind a Flush skips to Sync too',
    [
      parse('update notes set n = 8 where account = $1 and id = 2'),
      bind(['1']),
      execute(0),
      flush,
      parse('update notes set n = 5000 where account = $1'),
      bind(['1']),
      execute(0),
      flush,
      parse(ALL),
      bind(['1']),
      execute(0),
      flush,
      sync,
    ],
    [query('select id, n from notes where account = 1 order by id')],
  ],
  [
    'several statements in one text',
    [
      query(
        `select n from notes where account = 1 and id = 1; update notes set n = n + 2 where account = 1 and id = 1; select n from notes where account = 1 and id = 1`,
      ),
    ],
  ],
  [
    'an error in the middle of a text takes all of it back',
    [
      query(
        `update notes set n = 1 where account = 1; select 1 / (n - n) from notes where account = 1 and id = 1; update notes set n = 2 where account = 1`,
      ),
    ],
    [query('select n from notes where account = 1 order by id')],
  ],
  [
    'a transaction in one text',
    [query(`begin; update notes set n = n + 3 where account = 1 and id = 2; commit`)],
    [query('select n from notes where account = 1 and id = 2')],
  ],
  [
    'a transaction taken back in one text',
    [query(`begin; update notes set n = n + 3 where account = 1 and id = 2; rollback; select n from notes where account = 1 and id = 2`)],
  ],
  [
    'a transaction left open by a text',
    [query('begin; update notes set n = n + 4 where account = 1 and id = 3')],
    [query('select n from notes where account = 1 and id = 3')],
    [query('commit')],
  ],
  [
    'COMMIT in the middle of a text keeps what came before it',
    [query(`begin; update notes set n = 4 where account = 1 and id = 4; commit; update notes set n = 5000 where account = 1`)],
    [query('select n from notes where account = 1 order by id')],
  ],
  ['too few parameters', [parse(ALL), bind([]), execute(), sync]],
  ['too many parameters', [parse(ALL, 'few'), bind(['1', '2'], '', 'few'), execute(), sync], [closeStatement('few'), sync]],
  [
    'more result formats than columns',
    [parse(ALL), { ...bind(['1']), resultFormats: [0, 0, 0, 0, 1] } as FrontendMessage, execute(), sync],
  ],
  [
    'a name that is prepared twice',
    [parse(ALL, 'twice'), sync],
    [parse(ALL, 'twice'), bind(['1'], '', 'twice'), execute(), sync],
    [closeStatement('twice'), sync],
  ],
  [
    'empty statements between',
    [query(';; select n from notes where account = 1 and id = 1 ;;; select 1 from notes where account = 1 and id = 2;')],
  ],
]

describe('on keys of the target', () => {
  let plain: TestDatabase
  let move: Move
  let sessions: RawSession[] = []

  before(async () => {
    plain = await testDatabase(SQL)
    move = await startMove({ sql: SQL, tables: { 'public.notes': { partitionKey: 'account' } } })
    await move.move('target', ['1', '2'])
    const gateway = new URL(move.database.url)
    gateway.port = String(move.gateways[0]!.port)
    sessions = await Promise.all([rawSession(plain.url), rawSession(gateway.href)])
  })
  after(async () => {
    for (const session of sessions) session.end()
    await move[Symbol.asyncDispose]()
    await plain[Symbol.asyncDispose]()
  })

  for (const [name, ...pieces] of CONVERSATIONS) {
    test(`${name}: as PostgreSQL answers`, async () => {
      const answers: string[][] = [[], []]
      for (const piece of pieces) {
        const [theirs, ours] = await Promise.all(sessions.map((session) => session.say(piece)))
        answers[0]!.push(...theirs!)
        answers[1]!.push(...ours!)
      }
      assert.deepEqual(answers[1], answers[0])
    })
  }
})
