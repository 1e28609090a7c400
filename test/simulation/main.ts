// Promises: `npm run sim`: lives of a move by seed, each checked; with --mutations the planted bugs, each with the seeds it took to catch it.
// Exit codes: 0 nothing was violated (or no mutation survived), 1 something was, 2 a wrong command line.
import { spawnSync } from 'node:child_process'
import { Command, CommanderError, InvalidArgumentError } from 'commander'
import { Coverage, coverageProblems, type Pair } from './coverage.ts'
import { MUTATIONS } from './mutations.ts'
import { type Caught, runMutations } from './run-mutations.ts'
import { runSeed, SCENARIOS, type SeedReport } from './scenario.ts'

const WRONG_USE = 2
const SEEDS = { from: 1, to: 100 }
const VIOLATIONS_SHOWN = 5
const SEEDS_A_PROCESS = 500
const RESULT_BYTES_MAX = 64 * 1024 * 1024

interface Flags {
  readonly seeds: { readonly from: number; readonly to: number }
  readonly scenario: string
  readonly trace?: boolean
  readonly json?: boolean
  readonly untilCaught?: boolean
  readonly mutations?: boolean
  readonly only?: string
}

async function main(): Promise<number> {
  const program = new Command('sim')
    .description('Runs the protocol under seeded faults on one virtual clock, and checks each history.')
    .option('--seeds <a-b>', 'seeds from a to b', seedsOf, SEEDS)
    .option('--scenario <name>', Object.keys(SCENARIOS).join(', '), 'full')
    .option('--trace', 'prints every event: for one seed')
    .option('--until-caught', 'ends at the first seed that violates something')
    .option('--mutations', 'plants each known bug in a copy of the sources and counts the seeds until it is caught')
    .option('--only <text>', 'of the mutations, those whose name contains it')
    .option('--json', 'one JSON object on standard output, nothing else')
    .exitOverride()
  try {
    program.parse()
  } catch (error) {
    if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : WRONG_USE
    throw error
  }
  const flags = program.opts<Flags>()
  if (SCENARIOS[flags.scenario] === undefined) {
    process.stderr.write(`There is no scenario "${flags.scenario}": ${Object.keys(SCENARIOS).join(', ')}.\n`)
    return WRONG_USE
  }
  if (flags.mutations) return mutations(flags)
  const many = flags.seeds.to - flags.seeds.from >= SEEDS_A_PROCESS
  return many && !flags.trace ? inParts(flags) : seeds(flags)
}

interface SeedsResult {
  readonly scenario: string
  readonly seeds: number
  readonly events: number
  readonly violations: number
  readonly failingSeeds: readonly { readonly seed: number; readonly violations: readonly string[] }[]
  /** Keys whose order was looked for and neither found nor ruled out. */
  readonly undecided: number
  readonly seedsPerSecond: number
  readonly coverage: readonly Pair[]
}

/** What a dead host waits for is never collected, so that many seeds take a process for every few hundred, one after the other. */
function inParts({ seeds: { from, to }, scenario, json, untilCaught }: Flags): number {
  const startedMs = performance.now()
  const parts: SeedsResult[] = []
  for (let first = from; first <= to; first += SEEDS_A_PROCESS) {
    const range = `${first}-${Math.min(to, first + SEEDS_A_PROCESS - 1)}`
    const args = [...process.execArgv, import.meta.filename, '--seeds', range, '--scenario', scenario, '--json']
    const { stdout, status } = spawnSync(process.execPath, untilCaught ? [...args, '--until-caught'] : args, {
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'inherit'],
      maxBuffer: RESULT_BYTES_MAX,
    })
    if (stdout === '') throw new Error(`the process for seeds ${range} ended with ${status}`)
    const part = JSON.parse(stdout) as SeedsResult
    parts.push(part)
    if (!json) for (const one of part.failingSeeds) process.stdout.write(`${failed(one, scenario)}\n`)
    process.stderr.write(`seeds ${range}: ${part.failingSeeds.length} failed\n`)
    if (untilCaught && part.failingSeeds.length > 0) break
  }
  const seconds = (performance.now() - startedMs) / 1_000
  const sum = (of: (part: SeedsResult) => number) => parts.reduce((total, part) => total + of(part), 0)
  const coverage = parts[0]!.coverage.map((pair, i) => ({ ...pair, hits: sum((part) => part.coverage[i]!.hits) }))
  return tell(
    {
      scenario,
      seeds: sum(({ seeds }) => seeds),
      events: sum(({ events }) => events),
      violations: sum(({ violations }) => violations),
      undecided: sum(({ undecided }) => undecided),
      failingSeeds: parts.flatMap(({ failingSeeds }) => failingSeeds),
      seedsPerSecond: Math.round((sum(({ seeds }) => seeds) / seconds) * 10) / 10,
      coverage,
    },
    json === true,
  )
}

function tell(result: SeedsResult, json: boolean): number {
  const problems = coverageProblems(result.coverage, result.seeds)
  if (json) process.stdout.write(`${JSON.stringify({ ...result, coverageProblems: problems })}\n`)
  else {
    const { seeds: ran, events, failingSeeds, seedsPerSecond, coverage } = result
    const hit = coverage.filter(({ hits }) => hits > 0).length
    process.stdout.write(
      `${ran} seeds, ${events} events (${Math.round(events / ran)} a seed), ${failingSeeds.length} seeds failed, ${seedsPerSecond} seeds/s; ` +
        `${hit} of ${coverage.length} pairs of fault and step were hit\n`,
    )
    for (const problem of problems) process.stdout.write(`${problem}\n`)
  }
  return result.failingSeeds.length === 0 && problems.length === 0 ? 0 : 1
}

async function seeds({ seeds: { from, to }, scenario, trace, json, untilCaught }: Flags): Promise<number> {
  const startedMs = performance.now()
  // Weather makes errors by the thousand, and where each was made matters only to who follows one seed.
  if (trace !== true) Error.stackTraceLimit = 0
  const coverage = new Coverage()
  const failing: SeedReport[] = []
  let events = 0
  let undecided = 0
  let ran = 0
  for (let seed = from; seed <= to; seed++) {
    const report = await runSeed(seed, SCENARIOS[scenario]!, { traced: trace === true })
    ran++
    events += report.events
    undecided += report.undecided
    coverage.add(report.coverage)
    if (trace) process.stdout.write(`${report.trace.join('\n')}\n`)
    if (report.violations.length === 0) continue
    failing.push(report)
    if (!json) process.stdout.write(`${failed(report, scenario)}\n`)
    if (untilCaught) break
  }
  const seconds = (performance.now() - startedMs) / 1_000
  const result: SeedsResult = {
    scenario,
    seeds: ran,
    events,
    violations: failing.reduce((sum, { violations }) => sum + violations.length, 0),
    undecided,
    failingSeeds: failing.map(({ seed, violations }) => ({ seed, violations: violations.slice(0, VIOLATIONS_SHOWN) })),
    seedsPerSecond: Math.round((ran / seconds) * 10) / 10,
    coverage: coverage.pairs(),
  }
  return tell(result, json === true)
}

function failed({ seed, violations }: Pick<SeedReport, 'seed' | 'violations'>, scenario: string): string {
  const more = violations.length - VIOLATIONS_SHOWN
  return [
    `seed ${seed} failed; again: npm run sim -- --seeds ${seed}-${seed} --scenario ${scenario} --trace`,
    ...violations.slice(0, VIOLATIONS_SHOWN).map((one) => `  ${one}`),
    ...(more > 0 ? [`  and ${more} more`] : []),
  ].join('\n')
}

async function mutations({ seeds, scenario, json, only }: Flags): Promise<number> {
  const planted = MUTATIONS.filter(({ name }) => only === undefined || name.includes(only))
  const caught = await runMutations(planted, { seeds, scenario, told: (one) => process.stderr.write(`${line(one)}\n`) })
  const survivors = caught.filter(({ seed }) => seed === null).map(({ mutation }) => mutation.name)
  if (json)
    process.stdout.write(
      `${JSON.stringify({
        planted: planted.length,
        caught: planted.length - survivors.length,
        survivors,
        mutations: caught.map(({ mutation: { name, rule }, seed, by }) => ({ name, rule, seeds: seed, caughtBy: by })),
      })}\n`,
    )
  else process.stdout.write(`${planted.length} planted, ${planted.length - survivors.length} caught, ${survivors.length} survived\n`)
  return survivors.length === 0 ? 0 : 1
}

function line({ mutation, seed, by }: Caught): string {
  return `${seed === null ? 'SURVIVED' : `seed ${seed}`}`.padEnd(12) + mutation.name + (by === null ? '' : `: ${by}`)
}

function seedsOf(text: string): Flags['seeds'] {
  const match = /^(\d+)-(\d+)$/.exec(text)
  const [from, to] = [Number(match?.[1]), Number(match?.[2])]
  if (match === null || from > to) throw new InvalidArgumentError('Two whole numbers, as 1-100.')
  return { from, to }
}

process.exitCode = await main()
