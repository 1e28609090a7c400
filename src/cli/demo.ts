// Promises: `switchback demo`: the whole move there and back on this machine, or one incident that its judge has to see, told in plain
// sentences.
import { type Command, Option } from 'commander'
import { INCIDENT_NAMES, INCIDENTS, type IncidentName } from '../../examples/ledger/incidents.ts'
import { type CommandContext, command, handled } from './command.ts'
import { decimalNumber, wholeNumber } from './numbers.ts'
import type { ExitCode } from './output.ts'

interface DemoFlags {
  readonly rate?: number
  readonly zipf: number
  readonly accounts: number
  readonly kill?: number
  readonly incident?: IncidentName
  readonly seed?: number
}

/** What either story ends with: sentences for people, an object for programs. */
interface Told {
  readonly report: { readonly ok: boolean }
  readonly lines: readonly string[]
}

const RATE = 120

export function demoCommand(): Command {
  const incident = new Option('--incident <name>', 'something goes wrong, and the judge has to see it: nobody types a rollback')
  const cmd = command('demo', 'show the whole move there and back on an embedded PostgreSQL and an embedded store, under load')
    .option('--rate <n>', `operations a second, open loop (default: ${RATE}; some incidents more)`, wholeNumber(1, 5_000))
    .option('--zipf <s>', 'skew of the key choice', decimalNumber(0, 3), 0.9)
    .option('--accounts <n>', 'accounts of the ledger', wholeNumber(10, 1_000_000), 2_000)
    .option('--kill <n>', 'kill -9 so many times a randomly chosen controller or gateway (default: 0)', wholeNumber(0, 20))
    .addOption(incident.choices(INCIDENT_NAMES).conflicts('kill'))
    .option('--seed <n>', 'of every random choice; printed at the start', wholeNumber(0, 2 ** 31))
  return handled(cmd, async ({ out, signal }, flags: DemoFlags) => {
    const { DemoFailed } = await import('../../examples/ledger/stage.ts')
    const seed = flags.seed ?? Math.floor(Math.random() * 2 ** 31)
    out.line(`Switchback's main job on this machine. Seed ${seed}. Ctrl-C ends it and cleans up.`)
    try {
      const { report, lines } = await play(flags, seed, { out, signal })
      for (const line of lines) out.line(line)
      out.result({ ...report, seed })
      return report.ok ? 0 : 1
    } catch (error) {
      if (!(error instanceof DemoFailed)) throw error
      out.line(signal.aborted ? 'Stopped; everything that was started has ended.' : error.message)
      out.result({ ok: false, failures: [error.message], seed })
      return (signal.aborted ? 3 : 1) satisfies ExitCode
    }
  })
}

async function play(flags: DemoFlags, seed: number, { out, signal }: Pick<CommandContext, 'out' | 'signal'>): Promise<Told> {
  const { rate, zipf, accounts, kill = 0, incident } = flags
  const told = { say: (text: string) => out.line(text), progress: (line: string) => out.progress(`  ${line}`), signal }
  if (incident === undefined) {
    const { runDemo } = await import('../../examples/ledger/demo.ts')
    const { tellReport } = await import('../../examples/ledger/tell.ts')
    const report = await runDemo({ ratePerSecond: rate ?? RATE, zipf, accounts, kills: kill, seed, ...told })
    return { report, lines: tellReport(report) }
  }
  const { runIncident } = await import('../../examples/ledger/incident.ts')
  const { tellIncident } = await import('../../examples/ledger/tell-incident.ts')
  const { ratePerSecond, connectionsPerGateway } = INCIDENTS[incident]
  const report = await runIncident({ incident, ratePerSecond: rate ?? ratePerSecond, connectionsPerGateway, zipf, accounts, seed, ...told })
  return { report, lines: tellIncident(report) }
}
