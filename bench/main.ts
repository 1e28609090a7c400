// Promises: `npm run bench -- NAME`: measures, prints what it measured, and ends with 0 whether or not the goals hold. With --json one
// object on standard output and nothing else. 2: there is no such bench. Progress goes to standard error.
import { Command, CommanderError, InvalidArgumentError, Option } from 'commander'
import { benchBackfill } from './backfill.ts'
import { benchCommit } from './commit.ts'
import { benchFlip } from './flip.ts'
import { benchJudge, JUDGE_WORLDS } from './judge.ts'
import { type BenchOptions, type Figure, type Measured, machine } from './measure.ts'
import { benchParity } from './parity.ts'
import { benchSync } from './sync.ts'

interface Bench {
  readonly run: (options: BenchOptions) => Promise<Measured>
  readonly about: string
  /** Rounds unless told otherwise; of a quick run: QUICK_ROUNDS. */
  readonly rounds: number
}

const BENCHES: Readonly<Record<string, Bench>> = {
  commit: { run: benchCommit, rounds: 5, about: 'latency of one write transaction on the target, beside the same bare store calls' },
  backfill: { run: benchBackfill, rounds: 3, about: 'rows a second of the copy and its memory, beside plain conditional inserts' },
  sync: { run: benchSync, rounds: 3, about: 'lag of both syncs under load, and the forward rate beside the store’s own' },
  parity: { run: benchParity, rounds: 3, about: 'rows a second of a comparison, beside a plain scan' },
  flip: { run: benchFlip, rounds: 100, about: 'the pause that clients see while 256 slots move, there and back' },
  judge: {
    run: benchJudge,
    rounds: 1,
    about: 'delay and false rollbacks of the judge in simulated days, beside thresholds and Mann-Whitney',
  },
}

const QUICK_ROUNDS = 2
const UNKNOWN_BENCH = 2

interface Flags {
  readonly json?: boolean
  readonly quick?: boolean
  readonly rounds?: number
  readonly seeds?: { readonly from: number; readonly to: number }
  readonly world?: string
}

async function main(): Promise<number> {
  const program = new Command('bench')
    .description(
      `Benches: ${Object.entries(BENCHES)
        .map(([name, { about }]) => `\n  ${name.padEnd(10)}${about}`)
        .join('')}`,
    )
    .argument('<name>', Object.keys(BENCHES).join(', '))
    .option('--json', 'one JSON object on standard output, nothing else')
    .option('--quick', 'a small run: shows that it works')
    .option('--rounds <n>', 'rounds that alternate with the peer', wholeNumber)
    .option('--seeds <a-b>', 'judge: the seeds of its lives', seedRange)
    .addOption(new Option('--world <name>', 'judge: the weather').choices(JUDGE_WORLDS))
    .exitOverride()
  try {
    program.parse()
  } catch (error) {
    if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : UNKNOWN_BENCH
    throw error
  }
  const name = program.args[0]!
  const bench = BENCHES[name]
  if (bench === undefined) {
    process.stderr.write(`There is no bench "${name}": ${Object.keys(BENCHES).join(', ')}.\n`)
    return UNKNOWN_BENCH
  }
  return run(name, bench, program.opts<Flags>())
}

async function run(name: string, bench: Bench, flags: Flags): Promise<number> {
  const rounds = flags.rounds ?? (flags.quick ? QUICK_ROUNDS : bench.rounds)
  const stop = new AbortController()
  const onSignal = () => stop.abort()
  process.on('SIGINT', onSignal)
  process.on('SIGTERM', onSignal)
  const say = (text: string) => process.stderr.write(`${text}\n`)
  const measured = await bench.run({
    rounds,
    quick: flags.quick === true,
    seeds: flags.seeds ?? null,
    world: flags.world ?? null,
    say,
    signal: stop.signal,
  })
  const report = { bench: name, machine: machine(), rounds, ...measured }
  process.stdout.write(flags.json ? `${JSON.stringify(report)}\n` : table(report))
  return 0
}

function table({ bench, machine: { cores, model, memoryGiB, node }, rounds, figures, peers }: Measured & TableHead): string {
  const width = Math.max(...[...Object.keys(figures), ...Object.keys(peers)].map((name) => name.length)) + 2
  const line = (name: string, value: number, unit: string, rest: string) =>
    `  ${name.padEnd(width)}${String(value).padStart(10)} ${unit.padEnd(14)}${rest}`.trimEnd()
  return `${[
    `${bench}: ${rounds} rounds, ${cores} cores (${model}), ${memoryGiB} GiB, Node.js ${node}`,
    ...Object.entries(figures).map(([name, one]) => line(name, one.value, one.unit, standing(one))),
    ...(Object.keys(peers).length === 0 ? [] : ['measured beside it']),
    ...Object.entries(peers).map(([name, { value, unit }]) => line(name, value, unit, '')),
  ].join('\n')}\n`
}

interface TableHead {
  readonly bench: string
  readonly machine: ReturnType<typeof machine>
  readonly rounds: number
}

function standing({ goal, holds }: Figure): string {
  return goal === null ? '' : `goal ${goal}: ${holds ? 'holds' : 'does not hold'}`
}

function wholeNumber(text: string): number {
  const value = Number(text)
  if (!Number.isInteger(value) || value < 1) throw new InvalidArgumentError('A whole number from 1 on.')
  return value
}

function seedRange(text: string): { readonly from: number; readonly to: number } {
  const [, from, to] = /^(\d{1,9})-(\d{1,9})$/.exec(text) ?? []
  if (from === undefined || Number(from) > Number(to)) throw new InvalidArgumentError('Two whole numbers, as in 20001-20200.')
  return { from: Number(from), to: Number(to) }
}

process.exitCode = await main()
