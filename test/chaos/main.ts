// Promises: `npm run chaos`: real processes under load, killed by kill -9 at named points, stopped, and on lines that break; then judged.
// Exit codes: 0 nothing was lost, doubled, different or not recovered; 1 something was; 2 a wrong command line; 3 stopped by Ctrl-C.
import { Command, CommanderError, InvalidArgumentError } from 'commander'
import { type ChaosReport, failuresOf, type JudgeReport, summed } from './report.ts'
import { type RoundReport, runRound } from './round.ts'

const WRONG_USE = 2
const STOPPED = 3
/** In a round with the judge on; each kills the leader once more. */
const VERDICTS = 4

interface Flags {
  readonly rounds: number
  readonly seed: number
  readonly kills: number
  readonly lines: number
  readonly stops: number
  readonly judge?: number | true
  readonly json?: boolean
}

async function main(): Promise<number> {
  const program = new Command('chaos')
    .description('Moves keys there and back under load while processes are killed, stopped and cut off; then compares the stores.')
    .option('--rounds <n>', 'each on stores of its own', count, 1)
    .option('--seed <n>', 'of the first round; the next has the next', count, 1)
    .option('--kills <n>', 'kill -9 in a round', count, 12)
    .option('--lines <n>', 'lines that are broken in a round, besides those that are while somebody is killed', count, 3)
    .option('--stops <n>', 'processes that stand still (SIGSTOP) in a round', count, 1)
    .option(
      '--judge [n]',
      `the judge is on, and besides what it finds by itself goes back so often in a round (${VERDICTS} by default)`,
      count,
    )
    .option('--json', 'one JSON object on standard output, nothing else')
    .exitOverride()
  try {
    program.parse()
  } catch (error) {
    if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : WRONG_USE
    throw error
  }
  return run(program.opts<Flags>())
}

async function run({ rounds, seed, kills, lines, stops, judge, json }: Flags): Promise<number> {
  const stop = new AbortController()
  process.once('SIGINT', () => stop.abort())
  process.once('SIGTERM', () => stop.abort())
  const verdicts = judge === true ? VERDICTS : (judge ?? null)
  const done: RoundReport[] = []
  const broken: { seed: number; because: string }[] = []
  for (let round = 0; round < rounds && !stop.signal.aborted; round++) {
    const say = (text: string) => process.stderr.write(`round ${round + 1}, seed ${seed + round}: ${text}\n`)
    try {
      const report = await runRound({ seed: seed + round, kills, lines, stops, verdicts, say, signal: stop.signal })
      done.push(report)
      const failures = failuresOf(report)
      say(failures.length === 0 ? `ok, ${report.acknowledgedWrites} writes acknowledged` : failures.join('; '))
    } catch (error) {
      if (stop.signal.aborted) break
      broken.push({ seed: seed + round, because: String(error).split('\n')[0]! })
      say(String(error))
    }
  }
  const report = summed(done, broken)
  process.stdout.write(json ? `${JSON.stringify(report)}\n` : told(report))
  return stop.signal.aborted ? STOPPED : report.failures.length > 0 ? 1 : 0
}

function told(report: ChaosReport): string {
  const { recoveryMs, judge, points, failures } = report
  return `${[
    `${report.rounds} rounds, ${report.kills} kills, ${report.linesBroken} lines broken, ${report.stopped} processes stopped, ${report.flips} flips`,
    `${report.acknowledgedWrites} writes acknowledged, ${report.unknownWrites} with an unknown outcome`,
    `${report.lostWrites} lost, ${report.doubledWrites} doubled, ${report.parityDifferences} differences, ${report.invariantViolations} invariants violated`,
    `served again: p50 ${recoveryMs.p50} ms, p99 ${recoveryMs.p99} ms, at most ${recoveryMs.max} ms; not in time: ${report.notRecovered}`,
    ...(judge === null ? [] : [toldOfJudge(judge)]),
    ...Object.entries(points).map(([point, n]) => `  ${String(n).padStart(4)} x ${point}`),
    ...failures,
  ].join('\n')}\n`
}

function toldOfJudge({ verdicts, ordersHome, movesHeld, restarts, verdictToOffMs: off, ...checks }: JudgeReport): string {
  return [
    `${verdicts} rollbacks by verdict, ${ordersHome} orders home, ${movesHeld} moves held, ${restarts} times started again by a person`,
    `from the verdict until all was off the target: p50 ${off.p50} ms, p99 ${off.p99} ms, at most ${off.max} ms`,
    Object.entries(checks)
      .map(([check, n]) => `${n} ${check}`)
      .join(', '),
  ].join('\n')
}

function count(text: string): number {
  const n = Number(text)
  if (!Number.isSafeInteger(n) || n < 0) throw new InvalidArgumentError('a whole number from 0 on.')
  return n
}

process.exitCode = await main()
