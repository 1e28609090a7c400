// Random texts that PostgreSQL accepts for each type, in the many forms that clients send, and broken ones.
import type { Random } from '../../src/lib/prng.ts'
import type { ScalarType } from '../../src/model/mapping.ts'

export function pick<T>(random: Random, from: readonly T[]): T {
  return from[random.int(from.length)]!
}

const digits = (random: Random, max: number) => Array.from({ length: 1 + random.int(max) }, () => random.int(10)).join('')
const two = (value: number) => String(value).padStart(2, '0')
const blank = (random: Random) => pick(random, ['', '', '', ' ', '\t', '  \n'])

function integer(random: Random, bits: number): string {
  const bound = 2n ** BigInt(bits - 1)
  const value = pick(random, [
    BigInt(random.int(200) - 100),
    bound - 1n,
    -bound,
    BigInt.asIntN(bits, BigInt(random.int(2 ** 31)) * BigInt(random.int(2 ** 31)) * 7n),
  ])
  const text = value < 0n ? value.toString() : `${pick(random, ['', '', '+', '00'])}${value}`
  return blank(random) + text + blank(random)
}

function float(random: Random, type: 'float4' | 'float8'): string {
  const view = Buffer.from(Array.from({ length: 8 }, () => random.int(256)))
  const bits = type === 'float8' ? view.readDoubleBE(0) : view.readFloatBE(0)
  const power = 2 ** (random.int(180) - 60)
  const special = [
    'NaN',
    'Infinity',
    '-Infinity',
    '0',
    '-0',
    'inf',
    '1e15',
    '1e-5',
    '0.0001',
    '123456',
    '1234567',
    '2e22',
    '2e23',
    '5e-324',
    '9007199254740993',
    '8.5e15',
    '33554431',
  ]
  if (type === 'float4') special.splice(special.indexOf('5e-324'), 1, '1e-45')
  const within = type === 'float8' ? Number.isFinite(bits) : Number.isFinite(bits) && bits !== 0
  return pick(random, [
    within ? String(bits) : '1.5',
    String(power),
    String(random.int(1e9) / 10 ** random.int(8)),
    `${random.int(1e6)}e${random.int(20)}`,
    pick(random, special),
  ])
}

function numeric(random: Random): string {
  const sign = pick(random, ['', '', '-', '+'])
  const plain = `${sign}${digits(random, 45)}${pick(random, ['', `.${digits(random, 30)}`])}`
  const small = `${sign}0.${'0'.repeat(random.int(12))}${digits(random, 6)}`
  const zeros = `${sign}${random.int(100)}${'0'.repeat(random.int(20))}.${'0'.repeat(random.int(8))}`
  const scientific = `${sign}${digits(random, 4)}.${digits(random, 4)}e${random.int(40) - 20}`
  return (
    blank(random) +
    pick(random, [plain, plain, small, zeros, scientific, 'NaN', 'Infinity', '-inf', '.5', '5.', '0', '-0.00']) +
    blank(random)
  )
}

const LETTERS = [
  'a',
  'Z',
  '0',
  ' ',
  '"',
  '\\',
  '{',
  '}',
  ',',
  "'",
  'é',
  '漢',
  '😀',
  '\n',
  '\t',
  'NULL',
  'null',
  '\u007f',
  '\ufffd',
  '\u0001',
]
const text = (random: Random) => Array.from({ length: random.int(8) }, () => pick(random, LETTERS)).join('')

function date(random: Random, years: number): string {
  const year = pick(random, [2026, 2000, 1970, 1999, 1, 4, 100, 400, 1900, 1 + random.int(years), 1 + random.int(3000)])
  return `${String(year).padStart(4, '0')}-${two(1 + random.int(12))}-${two(1 + random.int(28))}`
}

const clock = (random: Random) =>
  `${two(random.int(24))}:${two(random.int(60))}${pick(random, ['', `:${two(random.int(60))}`, `:${two(random.int(60))}.${digits(random, 6)}`])}`

function zone(random: Random): string {
  const sign = pick(random, ['+', '-'])
  return pick(random, [
    'Z',
    `${sign}${two(random.int(14))}`,
    `${sign}${two(random.int(14))}:${two(random.int(60))}`,
    `${sign}${two(random.int(14))}${two(random.int(60))}`,
  ])
}

const era = (random: Random) => pick(random, ['', '', '', '', ' BC'])

function datedEra(random: Random, years: number, tail: (random: Random) => string): string {
  const bc = era(random)
  return `${date(random, bc === '' ? years : 4700)}${tail(random)}${bc}`
}

function interval(random: Random): string {
  const part = (unit: string) =>
    pick(random, ['', '', `${pick(random, ['', '-', '+'])}${random.int(50)} ${unit}${pick(random, ['', 's'])}`])
  const time = pick(random, [
    '',
    `${pick(random, ['', '-', '+'])}${two(random.int(200))}:${two(random.int(60))}:${two(random.int(60))}${pick(random, ['', `.${digits(random, 6)}`])}`,
  ])
  const canonical = [part('year'), part('mon'), part('day'), time].filter((each) => each !== '').join(' ')
  return canonical === ''
    ? pick(random, ['00:00:00', 'infinity', '-infinity', '1 day', 'P1DT2H', '2 hours', '178956970 years 7 mons'])
    : canonical
}

function json(random: Random, depth = 0): string {
  const space = () => pick(random, ['', '', ' ', '\n\t'])
  const string = () =>
    JSON.stringify(text(random))
      .replace('é', pick(random, ['é', '\\u00e9', '\\u00E9']))
      .replace('😀', pick(random, ['😀', '\\ud83d\\ude00']))
  const number = () => pick(random, ['0', '-0', '1.10', '-1.5e3', '1E-7', '12345678901234567890123', String(random.int(1000)), '100e-2'])
  if (depth > 3 || random.int(3) === 0) return pick(random, [string(), number(), 'true', 'false', 'null', string()])
  const items = Array.from({ length: random.int(4) }, () => json(random, depth + 1))
  if (random.int(2) === 0) return `[${space()}${items.join(`${space()},${space()}`)}${space()}]`
  return `{${space()}${items.map((item) => `${string()}${space()}:${space()}${item}`).join(`,${space()}`)}${space()}}`
}

function bytea(random: Random): string {
  const bytes = Buffer.from(Array.from({ length: random.int(12) }, () => random.int(256)))
  const hex = bytes.toString('hex')
  const escaped = [...bytes]
    .map((byte) => (byte > 0x20 && byte < 0x7f && byte !== 0x5c ? String.fromCharCode(byte) : `\\${byte.toString(8).padStart(3, '0')}`))
    .join('')
  return pick(random, [
    `\\x${hex}`,
    `\\x${hex.toUpperCase()}`,
    `\\x${hex.replace(/(..)/g, '$1 ')}`,
    escaped.startsWith('\\x') ? '' : escaped,
    'a\\\\b',
  ])
}

function uuid(random: Random): string {
  const hex = Buffer.from(Array.from({ length: 16 }, () => random.int(256))).toString('hex')
  const dashed = `${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20)}`
  return pick(random, [hex, dashed, dashed.toUpperCase(), `{${dashed}}`, hex.replace(/(....)(?!$)/g, '$1-')])
}

export const GENERATORS: Readonly<Record<ScalarType, (random: Random) => string>> = {
  bool: (random) =>
    blank(random) +
    pick(random, ['t', 'true', 'TRUE', 'yes', 'y', 'on', '1', 'f', 'false', 'fal', 'no', 'N', 'off', 'of', '0']) +
    blank(random),
  int2: (random) => integer(random, 16),
  int4: (random) => integer(random, 32),
  int8: (random) => integer(random, 64),
  float4: (random) => float(random, 'float4'),
  float8: (random) => float(random, 'float8'),
  numeric,
  text,
  varchar: text,
  bpchar: text,
  uuid,
  json: (random) => json(random),
  jsonb: (random) => json(random),
  bytea,
  date: (random) =>
    pick(random, [
      'infinity',
      '-infinity',
      '5874897-12-31',
      '4713-11-24 BC',
      ...Array.from({ length: 8 }, () => datedEra(random, 999_999, () => '')),
    ]),
  time: (random) => pick(random, ['24:00:00', ...Array.from({ length: 12 }, () => clock(random))]),
  timestamp: (random) =>
    pick(random, [
      'infinity',
      '-infinity',
      '294276-12-31 23:59:59.999999',
      ...Array.from({ length: 12 }, () => datedEra(random, 290_000, (r) => `${pick(r, ['T', ' '])}${clock(r)}`)),
    ]),
  timestamptz: (random) =>
    pick(random, [
      'infinity',
      '-infinity',
      '2026-01-02 03:04:05',
      ...Array.from({ length: 12 }, () => datedEra(random, 290_000, (r) => `${pick(r, ['T', ' '])}${clock(r)}${zone(r)}`)),
    ]),
  interval,
}

/** An array of one to three dimensions with nulls, sometimes with lower bounds. */
export function randomArrayText(type: ScalarType, random: Random): string {
  const element = () => {
    if (random.int(6) === 0) return pick(random, ['NULL', 'null'])
    const value = GENERATORS[type](random)
    const bare = /^[\w.:+-]+$/.test(value) && value.toLowerCase() !== 'null'
    return bare && random.int(2) === 0 ? value : `"${value.replace(/["\\]/g, (letter) => `\\${letter}`)}"`
  }
  if (random.int(10) === 0) return '{}'
  const lengths = Array.from({ length: 1 + random.int(3) }, () => 1 + random.int(3))
  const level = (depth: number): string =>
    `{${Array.from({ length: lengths[depth]! }, () => (depth + 1 < lengths.length ? level(depth + 1) : element())).join(pick(random, [',', ', ']))}}`
  const lower = lengths.map(() => random.int(5) - 2)
  const bounds = random.int(3) === 0 ? `${lengths.map((length, i) => `[${lower[i]}:${lower[i]! + length - 1}]`).join('')}=` : ''
  return bounds + level(0)
}

/** The text with something wrong or odd about it. */
export function mangled(text: string, random: Random): string {
  const at = random.int(text.length + 1)
  const odd = pick(random, [
    'x',
    '-',
    '+',
    ' ',
    '.',
    ':',
    '0',
    '9',
    '"',
    '\\',
    '{',
    '[',
    ',',
    'e',
    'T',
    'Z',
    '_',
    '0x',
    'BC',
    ' ',
    '1',
    '99',
    'o',
    'inf',
    '/',
    '\u00a0',
  ])
  return pick(random, [
    text.slice(0, at) + odd + text.slice(at),
    text.slice(0, at) + text.slice(at + 1),
    text.slice(0, at) + odd + text.slice(at + 1),
    text,
    odd,
    '',
  ])
}
