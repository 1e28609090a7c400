// Promises: PostgreSQL itself is the oracle of every value: its send functions for the binary format, its receive functions for
// what we send, its casts for what a client may type, its settings for what a client may see.
import assert from 'node:assert/strict'
import { after, describe, test } from 'node:test'
import { type Random, seededRandom } from '../../src/lib/prng.ts'
import type { ColumnType, ScalarType } from '../../src/model/mapping.ts'
import { SCALAR_TYPES } from '../../src/model/mapping.ts'
import { SqlError } from '../../src/model/plan.ts'
import {
  ASK,
  applyTypmod,
  canonicalText,
  decodeBinary,
  encodeBinary,
  oidOf,
  renderText,
  typeByOid,
  typeLengthOf,
  UNSUPPORTED,
  ZONE_SAMPLES_SQL,
  zoneDiffers,
} from '../../src/wire/values.ts'
import { testDatabase } from '../support/postgres.ts'
import { GENERATORS, mangled, pick, randomArrayText } from './random-values.ts'

const SEED = Number(process.env['SEED'] ?? Math.floor(Math.random() * 2 ** 31))
console.log(`# seed ${SEED}`)

/** Casts under a session's styles and shows the value under the pinned ones. */
const TRY_CASTS = SCALAR_TYPES.map(
  (type) => `
  create function try_${type}(input text, date_style text, interval_style text, zone text) returns text language plpgsql as $$
  declare
    value ${type};
  begin
    perform set_config('datestyle', date_style, true), set_config('intervalstyle', interval_style, true), set_config('timezone', zone, true);
    value := input::${type};
    perform set_config('datestyle', 'ISO, MDY', true), set_config('intervalstyle', 'postgres', true), set_config('timezone', 'UTC', true);
    return 'ok:' || format('%s', value);
  exception when others then
    return 'error:' || sqlstate;
  end $$;`,
).join('')

const database = await testDatabase(TRY_CASTS)
const client = await database.connect({
  options: '-c datestyle=ISO,MDY -c timezone=UTC -c intervalstyle=postgres -c bytea_output=hex -c extra_float_digits=1',
})

/** Texts as PostgreSQL prints them, and their binary form, of random inputs that it accepts. */
async function fromPostgres(type: ColumnType, inputs: readonly string[]): Promise<{ input: string; text: string; binary: Buffer }[]> {
  const send = type.endsWith('[]') ? 'array_send' : SEND[type as ScalarType]
  const found = await client.query(
    `select i.input, format('%s', i.input::${type}) as shown, encode(${send}(i.input::${type}), 'hex') as sent
     from unnest($1::text[]) with ordinality as i (input, n) order by n`,
    [inputs],
  )
  return found.rows.map((row) => ({ input: row.input, text: row.shown, binary: Buffer.from(row.sent, 'hex') }))
}

const SEND: Readonly<Record<ScalarType, string>> = {
  bool: 'boolsend',
  int2: 'int2send',
  int4: 'int4send',
  int8: 'int8send',
  float4: 'float4send',
  float8: 'float8send',
  numeric: 'numeric_send',
  text: 'textsend',
  varchar: 'varcharsend',
  bpchar: 'bpcharsend',
  uuid: 'uuid_send',
  json: 'json_send',
  jsonb: 'jsonb_send',
  bytea: 'byteasend',
  date: 'date_send',
  time: 'time_send',
  timestamp: 'timestamp_send',
  timestamptz: 'timestamptz_send',
  interval: 'interval_send',
}

async function holdsAgainstPostgres(type: ColumnType, inputs: readonly string[]): Promise<number> {
  const values = await fromPostgres(type, inputs)
  let told = 0
  for (const { input, text, binary } of values) {
    assert.equal(encodeBinary(type, text).toString('hex'), binary.toString('hex'), `encode ${type} ${text}`)
    assert.equal(decodeBinary(type, binary), text, `decode ${type} ${binary.toString('hex')}`)
    assert.ok([text, ASK].includes(canonicalText(type, text) as string), `canonical of canonical ${type} ${text}`)
    const canonical = canonicalText(type, input)
    if (canonical === ASK) continue
    told++
    assert.equal(canonical, text, `canonical ${type} ${JSON.stringify(input)}`)
  }
  for (let from = 0; from < values.length; from += 200) {
    const some = values.slice(from, from + 200)
    const shown = await client.query({
      text: `select ${some.map((_, i) => `format('%s', $${i + 1}::${type})`).join(', ')}`,
      values: some.map(({ text }) => encodeBinary(type, text)),
      rowMode: 'array',
    })
    assert.deepEqual(
      shown.rows[0],
      some.map(({ text }) => text),
    )
  }
  return told / values.length
}

describe('values', () => {
  // Of the suite, so that it comes before the server's end.
  after(() => database[Symbol.asyncDispose]())

  for (const type of SCALAR_TYPES) {
    test(`${type}: text and binary are PostgreSQL's own, both ways, and most client texts are told without asking`, async () => {
      const random = seededRandom(SEED)
      const inputs = Array.from({ length: 800 }, () => GENERATORS[type](random))
      const told = await holdsAgainstPostgres(type, inputs)
      assert.ok(told > (type === 'interval' ? 0.2 : 0.6), `only ${told} of the texts were told`)
    })

    test(`${type}[]: nulls, quotes, dimensions and lower bounds are PostgreSQL's own, both ways`, async () => {
      const random = seededRandom(SEED + 1)
      const inputs = Array.from({ length: 200 }, () => randomArrayText(type, random))
      await holdsAgainstPostgres(`${type}[]`, inputs)
    })
  }

  const STYLES = [
    ['ISO, MDY', 'postgres', 'UTC'],
    ['SQL, DMY', 'sql_standard', 'Asia/Kolkata'],
    ['German, YMD', 'iso_8601', 'America/New_York'],
  ] as const

  for (const type of SCALAR_TYPES) {
    test(`${type}: whatever a client types, we say what PostgreSQL says under any style, or ask`, async () => {
      const random = seededRandom(SEED + 2)
      const inputs = Array.from({ length: 400 }, () => mangled(GENERATORS[type](random), random)).filter(
        (text) => !/[\0]|\p{Surrogate}/u.test(text),
      )
      const [dateStyle, intervalStyle, zone] = pick(random, STYLES)
      const answers = await client.query(
        `select try_${type}(i.input, $2, $3, $4) as answer from unnest($1::text[]) with ordinality as i (input, n) order by n`,
        [inputs, dateStyle, intervalStyle, zone],
      )
      inputs.forEach((input, i) => {
        const ours = outcome(() => canonicalText(type, input))
        if (ours !== ASK)
          assert.equal(ours, answers.rows[i].answer, `${type} ${JSON.stringify(input)} under ${dateStyle}, ${intervalStyle}, ${zone}`)
      })
    })
  }

  function outcome(run: () => string | typeof ASK): string | typeof ASK {
    try {
      const value = run()
      return value === ASK ? ASK : `ok:${value}`
    } catch (error) {
      if (!(error instanceof SqlError)) throw error
      return `error:${error.sqlstate}`
    }
  }

  const EXAMPLES: readonly (readonly [ColumnType, string, string])[] = [
    ['int4', ' 042', '42'],
    ['int8', '-9223372036854775808', '-9223372036854775808'],
    ['bool', 'yes', 't'],
    ['bool', ' FALSE ', 'f'],
    ['uuid', '{A0EEBC99-9C0B4EF8-BB6D6BB9BD380A11}', 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'],
    ['timestamptz', '2026-01-02T03:04:05.678+02:00', '2026-01-02 01:04:05.678+00'],
    ['timestamptz', '0044-03-15 12:00:00+00 BC', '0044-03-15 12:00:00+00 BC'],
    ['timestamp', '2026-01-02T03:04:05.678Z', '2026-01-02 03:04:05.678'],
    ['date', '2026-01-02T00:00:00.000+02:00', '2026-01-02'],
    ['numeric', '1e3', '1000'],
    ['numeric', '1.10', '1.10'],
    ['numeric', '-0.00', '0.00'],
    ['numeric', '123456789012345678901234567890123456789', '123456789012345678901234567890123456789'],
    ['float8', '2e23', '2.0000000000000003e+23'],
    ['float8', '-0', '-0'],
    ['jsonb', '{"bb":1e2,"a":[1.10,null],"a":"\\u00e9"}', '{"a": "é", "bb": 100}'],
    ['bytea', 'a\\000\\\\', '\\x61005c'],
    ['int4[]', '{ 1, 02 ,NULL}', '{1,2,NULL}'],
    ['text[]', '[0:1]={"a b",""}', '[0:1]={"a b",""}'],
  ]

  test('the usual texts of drivers are told without asking', async () => {
    for (const [type, input, expected] of EXAMPLES) {
      const shown = await client.query(`select format('%s', $1::text::${type}) as shown`, [input])
      assert.equal(canonicalText(type, input), shown.rows[0].shown, `${type} ${input}`)
      if (input !== '2e23') assert.equal(shown.rows[0].shown, expected)
    }
  })

  test('what depends on the session, the clock or the version is asked', () => {
    const asked: [ColumnType, string][] = [
      ['timestamptz', '2026-01-02 03:04:05'],
      ['timestamptz', 'now'],
      ['date', '01/02/2026'],
      ['date', 'today'],
      ['int4', '0x1F'],
      ['int4', '1_000'],
      ['interval', '-1 days 02:00:00'],
      ['bytea', 'é'],
      ['int4[]', '{{},{}}'],
    ]
    for (const [type, text] of asked) assert.equal(canonicalText(type, text), ASK, `${type} ${text}`)
  })

  test('NUL and lone surrogates are refused by name, never bent', () => {
    for (const type of ['text', 'varchar', 'json', 'jsonb', 'text[]'] as const) {
      assert.throws(() => canonicalText(type, type === 'text[]' ? '{a\0}' : '"a\0"'), { name: 'SqlError', sqlstate: '22021' })
      assert.throws(() => canonicalText(type, type === 'text[]' ? '{\ud800}' : '"\ud800"'), { name: 'SqlError', sqlstate: '22021' })
    }
    assert.throws(() => decodeBinary('text', Buffer.from([0x61, 0xff])), { sqlstate: '22021' })
  })

  test('types, OIDs and lengths are the catalog’s', async () => {
    const known = SCALAR_TYPES.flatMap((type): ColumnType[] => [type, `${type}[]`])
    for (const type of known) {
      const row = (
        await client.query(`select $1::regtype::oid::int as oid, (select typlen from pg_type where oid = $1::regtype) as length`, [type])
      ).rows[0]
      assert.deepEqual([oidOf(type), typeLengthOf(type), typeByOid(oidOf(type))], [row.oid, row.length, type])
    }
    assert.equal(typeByOid(600), undefined)
  })

  const ZONES = [
    'UTC',
    'Europe/Berlin',
    'Asia/Kolkata',
    'America/St_Johns',
    'Australia/Lord_Howe',
    'Asia/Kathmandu',
    'America/New_York',
    'Pacific/Apia',
    '<+02>-02',
    '<-03:30>+03:30',
    'Etc/GMT+5',
  ]

  test('a client sees its own time zone, to the microsecond', async () => {
    const random = seededRandom(SEED + 3)
    let unsupported = 0
    for (const zone of ZONES) {
      await client.query(`select set_config('timezone', $1, false)`, [zone])
      const inputs = Array.from({ length: 400 }, () => pick(random, [GENERATORS.timestamptz(random), recent(random)]))
      const shown = await client.query(
        `select format('%s', i.input::timestamptz) as local, format('%s', array[i.input::timestamptz]) as locals,
              format('%s', i.input::timestamptz at time zone 'UTC') as utc
       from unnest($1::text[]) with ordinality as i (input, n) order by n`,
        [inputs],
      )
      for (const { local, locals, utc } of shown.rows) {
        const text = utc.includes('infinity') ? utc : utc.replace(/( BC)?$/, '+00$1')
        const settings = { timeZone: zone, dateStyle: 'ISO, MDY', intervalStyle: 'postgres', byteaOutput: 'hex' }
        const ours = renderText('timestamptz', text, settings)
        if (ours === UNSUPPORTED) unsupported++
        else {
          assert.equal(ours, local, `${text} in ${zone}`)
          assert.equal(renderText('timestamptz[]', `{"${text}"}`, settings), locals)
        }
      }
    }
    await client.query(`set timezone = 'UTC'`)
    assert.ok(unsupported < (ZONES.length * 400) / 2, `${unsupported} were not rendered`)
  })

  test('a zone that this runtime and the server know differently is found out before a client sees it', async () => {
    const samples = async (zone: string): Promise<number[]> => (await client.query(ZONE_SAMPLES_SQL, [zone])).rows[0].offsets
    const berlin = await samples('Europe/Berlin')
    assert.equal(berlin.length, 10_436)
    assert.equal(zoneDiffers('Europe/Berlin', berlin), false)
    assert.equal(zoneDiffers('Europe/London', berlin), true)
    assert.equal(zoneDiffers('<+02>-02', await samples('<+02>-02')), false)
    assert.equal(zoneDiffers('CET', await samples('CET')), true)
    assert.equal(zoneDiffers('Mars/Base', [0]), true)
    assert.equal(zoneDiffers('Europe/Berlin', [...berlin.slice(0, -1), 7200]), true)
  })

  function recent(random: Random): string {
    const ms = 1 + random.int(2_000_000_000) * 1000
    return new Date(ms).toISOString().replace('Z', `${random.int(1000)}Z`.padStart(4, '0'))
  }

  test('bytea is shown escaped to who asks for it, styles that are not rendered are said so', async () => {
    const random = seededRandom(SEED + 4)
    const settings = { timeZone: 'UTC', dateStyle: 'ISO, DMY', intervalStyle: 'postgres', byteaOutput: 'escape' }
    for (let i = 0; i < 50; i++) {
      const text = decodeBinary('bytea', Buffer.from(Array.from({ length: random.int(30) }, () => random.int(256))))
      await client.query(`set bytea_output = 'escape'`)
      const shown = await client.query(`select format('%s', $1::text::bytea) as one, format('%s', array[$1::text::bytea]) as many`, [text])
      assert.equal(renderText('bytea', text, settings), shown.rows[0].one)
      assert.equal(renderText('bytea[]', canonicalArray(text), settings), shown.rows[0].many)
    }
    await client.query(`set bytea_output = 'hex'`)
    const other = { ...settings, dateStyle: 'German, DMY', intervalStyle: 'iso_8601' }
    for (const [type, text] of [
      ['date', '2026-01-02'],
      ['interval', '1 day'],
      ['timestamptz', '2026-01-02 00:00:00+00'],
    ] as const) {
      assert.equal(renderText(type, text, other), UNSUPPORTED)
    }
    assert.equal(renderText('timestamptz', '2026-01-02 00:00:00+00', { ...settings, timeZone: 'Mars/Base' }), UNSUPPORTED)
  })

  function canonicalArray(text: string): string {
    const canonical = canonicalText('bytea[]', `{"${text.replaceAll('\\', '\\\\')}"}`)
    assert.ok(canonical !== ASK)
    return canonical
  }

  const TYPMODS: readonly ColumnType[] = ['numeric', 'varchar', 'bpchar', 'time', 'timestamp', 'timestamptz', 'interval', 'numeric[]']
  const MODIFIERS: Readonly<Record<string, readonly string[]>> = {
    numeric: ['(5,2)', '(10,0)', '(3,5)', '(4,-2)', '(38,10)'],
    'numeric[]': ['(6,1)'],
    varchar: ['(3)', '(10)'],
    bpchar: ['(3)', '(10)'],
    time: ['(0)', '(3)', '(6)'],
    timestamp: ['(0)', '(3)'],
    timestamptz: ['(0)', '(5)'],
    interval: [
      '(0)',
      '(3)',
      ' year',
      ' month',
      ' year to month',
      ' day',
      ' day to hour',
      ' day to minute',
      ' hour to second(1)',
      ' minute',
    ],
  }

  test('type modifiers round, pad and refuse as an assignment in PostgreSQL does', async () => {
    const random = seededRandom(SEED + 5)
    const columns = TYPMODS.flatMap((type) => MODIFIERS[type]!.map((modifier) => ({ type, modifier })))
    const declared = (type: ColumnType, modifier: string) =>
      type.endsWith('[]') ? `${type.slice(0, -2)}${modifier}[]` : `${type}${modifier}`
    await client.query(`create table typmods (${columns.map(({ type, modifier }, i) => `c${i} ${declared(type, modifier)}`).join(', ')})`)
    await client.query(`
    create function try_assign(col text, type text, input text) returns text language plpgsql as $$
    declare
      shown text;
    begin
      execute format('insert into typmods (%1$I) values (($1)::%2$s) returning format(''%%s'', %1$I)', col, type) into shown using input;
      return 'ok:' || shown;
    exception when others then
      return 'error:' || sqlstate;
    end $$`)
    const typmods = await client.query(
      `select atttypmod from pg_attribute where attrelid = 'typmods'::regclass and attnum > 0 order by attnum`,
    )
    for (const [i, { type, modifier }] of columns.entries()) {
      const inputs = Array.from({ length: 60 }, () =>
        type === 'numeric[]' ? randomArrayText('numeric', random) : typmodInput(type as ScalarType, random),
      )
      const answers = await client.query(
        `select format('%s', i.input::${type}) as text, try_assign($1, $2, i.input) as answer from unnest($3::text[]) as i (input)`,
        [`c${i}`, type, inputs],
      )
      for (const { text, answer } of answers.rows) {
        assert.equal(
          outcome(() => applyTypmod(type, typmods.rows[i].atttypmod, text)),
          answer,
          `${text} into ${type}${modifier}`,
        )
      }
    }
  })

  function typmodInput(type: ScalarType, random: Random): string {
    if (type === 'varchar' || type === 'bpchar')
      return pick(random, ['', 'a', 'abc', 'abcd', 'ab   ', 'äöü', '😀😀😀', '😀😀😀😀', 'a         b', 'abc       ', 'a           '])
    if (type === 'numeric')
      return pick(random, [
        GENERATORS.numeric(random),
        `${random.int(2) ? '-' : ''}${random.int(100_000)}.${random.int(100_000)}`,
        `${random.int(1000)}.${random.int(10)}5`,
      ])
    return GENERATORS[type](random)
  }

  test('random bytes are a value or PostgreSQL’s own kind of error, never a crash, and never a value it would print otherwise', async () => {
    const random = seededRandom(SEED + 6)
    for (const type of SCALAR_TYPES.flatMap((scalar): ColumnType[] => [scalar, `${scalar}[]`])) {
      for (let i = 0; i < 300; i++) {
        const bytes = Buffer.from(
          Array.from({ length: pick(random, [0, 1, 2, 4, 8, 12, 16, 24]) }, () => pick(random, [0, 0, 1, 255, random.int(256)])),
        )
        try {
          const text = decodeBinary(type, bytes)
          assert.equal(decodeBinary(type, encodeBinary(type, text)), text)
        } catch (error) {
          assert.ok(error instanceof SqlError, `${type} ${bytes.toString('hex')}: ${String(error)}`)
        }
      }
    }
  })
})
