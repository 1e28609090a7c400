// Promises: what each story of the demo is played on: both stores, two gateways and a controller as a user starts them, the ledger's load,
// and the commands that a user types; a command that fails, or a wait that is over, ends the story with the processes' logs.
import type { JournaledWrite } from './journal.ts'
import { readJournal } from './journal.ts'
import type { LoadCounts } from './load.ts'
import { type LoadProcess, startLoadProcess } from './load-process.ts'
import { type CommandResult, runCommand, Supervised } from './processes.ts'
import { Watch } from './watch.ts'
import { startWorld, type World, type WorldOptions } from './world.ts'

export interface StageOptions {
  readonly ratePerSecond: number
  readonly zipf: number
  readonly accounts: number
  readonly seed: number
  readonly connectionsPerGateway: number
  /** A sentence of the story. */
  readonly say: (text: string) => void
  readonly progress: (line: string) => void
  readonly signal: AbortSignal
}

export class DemoFailed extends Error {
  override readonly name = 'DemoFailed'
}

export interface Parity {
  readonly rowsCompared: number
  readonly differences: number
  readonly notChecked: number
}

const LOAD_GIVES_UP_MS = 20_000
const COMES_TRUE_MS = 120_000
const LOOK_MS = 20
const STATUS_LOOK_MS = 200
const LOG_CHARACTERS = 4_000

/** Plays on a world of its own, which is gone when this returns, however it does. Throws DemoFailed when a command failed or the signal came. */
export async function played<R>(
  options: StageOptions,
  world: Pick<WorldOptions, 'lines' | 'judge'>,
  play: (stage: Stage) => Promise<R>,
): Promise<R> {
  try {
    const started = await startWorld({ ...options, ...world })
    try {
      return await play(await Stage.open(started, options))
    } finally {
      await started.close()
    }
  } catch (error) {
    // A terminal's Ctrl-C reaches every process of the group: whatever failed of it has been stopped, and is no failure.
    if (options.signal.aborted) throw new DemoFailed('stopped', { cause: error })
    throw error
  }
}

export class Stage {
  readonly world: World
  /** In the order in which they were started: the gateways first. */
  readonly processes: readonly Supervised[]
  readonly load: LoadProcess
  readonly watch: Watch
  readonly #options: StageOptions

  private constructor(options: StageOptions, parts: Pick<Stage, 'world' | 'processes' | 'load' | 'watch'>) {
    this.#options = options
    this.world = parts.world
    this.processes = parts.processes
    this.load = parts.load
    this.watch = parts.watch
  }

  /** Switchback installed, its processes and the load running, the first writes acknowledged; the world ends all of it. */
  static async open(world: World, options: StageOptions): Promise<Stage> {
    const { say, ratePerSecond, zipf, accounts, seed } = options
    const { command, gatewayPorts } = world
    say('switchback init: reads the live schema and prepares PostgreSQL.')
    await insist(['init'], world, options, [])
    say('switchback gateway, twice; switchback controller: three processes.')
    const processes = [
      new Supervised('gateway-1', ['gateway', '--port', String(gatewayPorts[0]), '--name', 'gateway-1'], command),
      new Supervised('gateway-2', ['gateway', '--port', String(gatewayPorts[1]), '--name', 'gateway-2'], command),
      new Supervised('controller', ['controller', '--name', 'controller'], command),
    ]
    world.defer(() => Promise.all(processes.map((process) => process.stop())))
    say(
      `The ledger's load begins: ${ratePerSecond} operations a second, open loop, Zipf ${zipf} over ${accounts} accounts, through both gateways.`,
    )
    const load = startLoadProcess({
      urls: world.gatewayUrls,
      ratePerSecond,
      zipf,
      accounts,
      seed,
      journalPath: world.journalPath,
      connectionsPerUrl: options.connectionsPerGateway,
      giveUpMs: LOAD_GIVES_UP_MS,
    })
    world.defer(() => load.kill())
    const watch = await Watch.open(world.databaseUrl)
    world.defer(() => watch.close())
    const stage = new Stage(options, { world, processes, load, watch })
    await stage.until('the first writes are acknowledged', () => load.acknowledgedWrites > 50)
    return stage
  }

  async copy(): Promise<void> {
    const { say } = this.#options
    say('switchback backfill: copies a consistent snapshot into the store while writes flow; the forward sync then keeps up.')
    const backfill = await this.run(['backfill'])
    say(`  ${String(backfill.result['rows'])} rows copied in ${String(backfill.result['durationMs'])} ms.`)
    await this.untilReady()
    const parity = await this.run(['parity'])
    say(
      `switchback parity, while writes flow: ${String(parity.result['rowsCompared'])} rows compared, ${String(parity.result['differences'])} differences.`,
    )
  }

  async parity(): Promise<Parity> {
    const { result } = await this.run(['parity', '--full'])
    const parity = {
      rowsCompared: Number(result['rowsCompared']),
      differences: Number(result['differences']),
      notChecked: Number(result['rowsNotChecked'] ?? 0),
    }
    this.#options.say(
      `switchback parity --full: ${parity.rowsCompared} rows compared, ${parity.differences} differences; the certificate is signed.`,
    )
    return parity
  }

  /** Once the arrivals have ended. */
  async journaled(): Promise<{ readonly counts: LoadCounts; readonly writes: readonly JournaledWrite[] }> {
    return { counts: await this.load.stop(), writes: readJournal(this.world.journalPath) }
  }

  run(args: readonly string[]): Promise<CommandResult> {
    return insist(args, this.world, this.#options, this.processes)
  }

  async untilReady(): Promise<void> {
    for (;;) {
      const { result } = await this.run(['status'])
      if (result['readyForCanary'] === true) return
      await this.pause(STATUS_LOOK_MS)
    }
  }

  /** Throws DemoFailed where the judge has gone back more often than anything was made wrong. */
  async notYetJudged(causes = 0): Promise<void> {
    if ((await this.watch.rollbacks()) <= causes) return
    const early = await this.watch.newestRollback()
    throw new DemoFailed(
      `the judge went back before anything was made wrong (${early?.detector}): this machine may be busy with other work, or too slow for --rate`,
    )
  }

  async atLeast(more: number): Promise<void> {
    const from = this.load.acknowledgedWrites
    await this.until(`${more} more writes`, () => this.load.acknowledgedWrites >= from + more)
  }

  async untilOnTarget(transactions: number): Promise<void> {
    for (;;) {
      if ((await this.watch.appliedTransactions()) >= transactions) return
      await this.notYetJudged()
      if (this.#options.signal.aborted) throw new DemoFailed('stopped')
      await this.pause(STATUS_LOOK_MS)
    }
  }

  async until(what: string, holds: () => boolean, withinMs = COMES_TRUE_MS): Promise<void> {
    if (!(await this.comesTrue(holds, withinMs))) throw new DemoFailed(`not in time: ${what}`)
  }

  /** False: not in time. */
  async comesTrue(holds: () => boolean | Promise<boolean>, withinMs: number, lookMs = LOOK_MS): Promise<boolean> {
    const deadlineMs = Date.now() + withinMs
    while (!(await holds())) {
      if (this.#options.signal.aborted) throw new DemoFailed('stopped')
      if (Date.now() > deadlineMs) return false
      await this.pause(lookMs)
    }
    return true
  }

  pause(ms: number): Promise<void> {
    const { signal } = this.#options
    return new Promise((resolve) => {
      if (signal.aborted) return resolve()
      const over = () => {
        clearTimeout(timer)
        signal.removeEventListener('abort', over)
        resolve()
      }
      const timer = setTimeout(over, ms)
      signal.addEventListener('abort', over, { once: true })
    })
  }
}

async function insist(
  args: readonly string[],
  { command }: World,
  { signal }: StageOptions,
  processes: readonly Supervised[],
): Promise<CommandResult> {
  const done = await runCommand(args, command)
  if (signal.aborted) throw new DemoFailed('stopped')
  if (done.exitCode === 0) return done
  const logs = processes.map(({ name, log }) => `--- ${name}\n${log.slice(-LOG_CHARACTERS)}`).join('\n')
  throw new DemoFailed(`switchback ${args.join(' ')} ended with ${done.exitCode}: ${done.stderr}\n${JSON.stringify(done.result)}\n${logs}`)
}
