// Promises: the whole move there and back on this machine, under load, by the commands a user types; says in plain sentences what
// happens; leaves nothing running and nothing behind, also on Ctrl-C.
import { hashSlotOf } from '../../src/model/key.ts'
import { checkLedger } from './check.ts'
import { readJournal } from './journal.ts'
import { type LoadProcess, startLoadProcess } from './load-process.ts'
import { type CommandResult, runCommand, Supervised } from './processes.ts'
import { demoReport, type Kill } from './report.ts'
import { rowsInDynamo, rowsInPostgres } from './stores.ts'
import { killInsideFlip, killOne, Watch } from './watch.ts'
import { startWorld, type World } from './world.ts'

export interface DemoOptions {
  readonly ratePerSecond: number
  readonly zipf: number
  readonly accounts: number
  readonly kills: number
  readonly seed: number
  /** A sentence of the story. */
  readonly say: (text: string) => void
  readonly progress: (line: string) => void
  readonly signal: AbortSignal
}

export type DemoReport = ReturnType<typeof demoReport>

export class DemoFailed extends Error {
  override readonly name = 'DemoFailed'
}

const READONLY_MS = 3_000
/** Acknowledged writes that the target must have taken before the way home, and in all before the load ends. */
const WRITES_ON_TARGET = 2_000
const WRITES_IN_ALL = 5_500
const LOAD_GIVES_UP_MS = 20_000

/** Throws DemoFailed when a command failed or the signal came; the evidence decides the rest. */
export async function runDemo(options: DemoOptions): Promise<DemoReport> {
  const startedMs = Date.now()
  try {
    const world = await startWorld(options)
    try {
      const story = new Story(world, options)
      await story.tell()
      return await story.report(startedMs)
    } finally {
      await world.close()
    }
  } catch (error) {
    // A terminal's Ctrl-C reaches every process of the group: whatever failed of it has been stopped, and is no failure.
    if (options.signal.aborted) throw new DemoFailed('stopped', { cause: error })
    throw error
  }
}

class Story {
  readonly #world: World
  readonly #options: DemoOptions
  readonly #kills: Kill[] = []
  readonly #readonlyWindows: (readonly [number, number])[] = []
  readonly #random: () => number
  #supervised: Supervised[] = []
  #load: LoadProcess | null = null
  #watch: Watch | null = null
  #rollbackMs = 0
  #parity = { rowsCompared: 0, differences: 0, notChecked: 0 }
  #onTarget = 0

  constructor(world: World, options: DemoOptions) {
    this.#world = world
    this.#options = options
    this.#random = lcg(options.seed)
  }

  async tell(): Promise<void> {
    await this.#start()
    await this.#copy()
    await this.#moveOut()
    await this.#stopWrites()
    await this.#comeHome()
  }

  async report(startedMs: number): Promise<DemoReport> {
    const { say } = this.#options
    say('The load has stopped. Each store is asked, by its own client, what it holds of the journal.')
    const counts = await this.#load!.stop()
    const writes = readJournal(this.#world.journalPath)
    return demoReport({
      samples: this.#load!.samples,
      counts,
      source: checkLedger(writes, await rowsInPostgres(this.#world.databaseUrl)),
      target: checkLedger(writes, await rowsInDynamo(this.#world.dynamo, (item) => item['_sb_deleted'] !== undefined)),
      acknowledgedOnTarget: this.#onTarget,
      flips: await this.#watch!.flips(),
      kills: this.#kills,
      readonlyWindows: this.#readonlyWindows,
      rollbackDurationMs: this.#rollbackMs,
      parity: this.#parity,
      durationMs: Date.now() - startedMs,
      slotOf: (account) => hashSlotOf(String(account)),
    })
  }

  async #start(): Promise<void> {
    const { say, accounts, ratePerSecond, zipf, seed } = this.#options
    const { command, gatewayPorts, gatewayUrls, journalPath } = this.#world
    say('switchback init: reads the live schema and prepares PostgreSQL.')
    await this.#run(['init'])
    say('switchback gateway, twice; switchback controller: three processes.')
    this.#supervised = [
      new Supervised('gateway-1', ['gateway', '--port', String(gatewayPorts[0]), '--name', 'gateway-1'], command),
      new Supervised('gateway-2', ['gateway', '--port', String(gatewayPorts[1]), '--name', 'gateway-2'], command),
      new Supervised('controller', ['controller', '--name', 'controller'], command),
    ]
    this.#world.defer(() => Promise.all(this.#supervised.map((process) => process.stop())))
    say(
      `The ledger's load begins: ${ratePerSecond} operations a second, open loop, Zipf ${zipf} over ${accounts} accounts, through both gateways.`,
    )
    this.#load = startLoadProcess({
      urls: gatewayUrls,
      ratePerSecond,
      zipf,
      accounts,
      seed,
      journalPath,
      connectionsPerUrl: 24,
      giveUpMs: LOAD_GIVES_UP_MS,
    })
    this.#world.defer(() => this.#load!.kill())
    this.#watch = await Watch.open(this.#world.databaseUrl)
    this.#world.defer(() => this.#watch!.close())
    await this.#until('the first writes are acknowledged', () => this.#load!.acknowledgedWrites > 50)
  }

  async #copy(): Promise<void> {
    const { say } = this.#options
    say('switchback backfill: copies a consistent snapshot into the store while writes flow; the forward sync then keeps up.')
    const backfill = await this.#run(['backfill'])
    say(`  ${String(backfill.result['rows'])} rows copied in ${String(backfill.result['durationMs'])} ms.`)
    await this.#untilReady()
    const parity = await this.#run(['parity'])
    say(
      `switchback parity, while writes flow: ${String(parity.result['rowsCompared'])} rows compared, ${String(parity.result['differences'])} differences.`,
    )
  }

  async #moveOut(): Promise<void> {
    const { say, kills } = this.#options
    say('switchback canary start 1%: reads and writes of 1 % of the keys move to the store.')
    await this.#run(['canary', 'start', '1%'])
    await this.#atLeast(300)
    if (kills >= 3) await this.#kill('canary at 1 %')
    say('switchback canary advance 25%.')
    await this.#withKill(kills >= 1 ? 'target' : null, () => this.#run(['canary', 'advance', '25%']))
    await this.#atLeast(800)
    for (let extra = 3; extra < kills; extra++) await this.#kill('canary at 25 %')
    say('switchback canary advance 100%: PostgreSQL serves none of these keys any more.')
    await this.#run(['canary', 'advance', '100%'])
    await this.#untilOnTarget(WRITES_ON_TARGET)
  }

  async #stopWrites(): Promise<void> {
    const { say } = this.#options
    say('switchback readonly on: reads go on, writes are answered with SQLSTATE 25006.')
    const fromMs = Date.now()
    await this.#run(['readonly', 'on'])
    await pause(READONLY_MS, this.#options.signal)
    await this.#run(['readonly', 'off'])
    this.#readonlyWindows.push([fromMs, Date.now()])
    say(`switchback readonly off, after ${Date.now() - fromMs} ms.`)
  }

  async #comeHome(): Promise<void> {
    const { say, kills } = this.#options
    await this.#until(`${WRITES_IN_ALL} writes are acknowledged`, () => this.#load!.acknowledgedWrites >= WRITES_IN_ALL)
    say('switchback rollback: the keys return to PostgreSQL by the reverse sync, under load.')
    const fromMs = Date.now()
    const rollback = await this.#withKill(kills >= 2 ? 'source' : null, () => this.#run(['rollback']))
    this.#rollbackMs = Number(rollback.result['durationMs'] ?? Date.now() - fromMs)
    this.#onTarget = await this.#watch!.appliedTransactions()
    await this.#load!.stopArrivals()
    const parity = await this.#run(['parity', '--full'])
    this.#parity = {
      rowsCompared: Number(parity.result['rowsCompared']),
      differences: Number(parity.result['differences']),
      notChecked: Number(parity.result['rowsNotChecked'] ?? 0),
    }
    say(
      `switchback parity --full: ${this.#parity.rowsCompared} rows compared, ${this.#parity.differences} differences; the certificate is signed.`,
    )
  }

  async #run(args: readonly string[]): Promise<CommandResult> {
    const done = await runCommand(args, this.#world.command)
    if (this.#options.signal.aborted) throw new DemoFailed('stopped')
    if (done.exitCode !== 0) {
      const logs = this.#supervised.map((process) => `--- ${process.name}\n${process.log.slice(-4_000)}`).join('\n')
      throw new DemoFailed(
        `switchback ${args.join(' ')} ended with ${done.exitCode}: ${done.stderr}\n${JSON.stringify(done.result)}\n${logs}`,
      )
    }
    return done
  }

  /** Runs a command, and a kill -9 in the middle of one of its flips. */
  async #withKill(owner: string | null, work: () => Promise<CommandResult>): Promise<CommandResult> {
    if (owner === null) return work()
    const done = new AbortController()
    const killing = killInsideFlip(this.#watch!, owner, this.#killPlan(), done.signal)
    const result = await work().finally(() => done.abort())
    const kill = await killing
    if (kill !== null) this.#kills.push(kill)
    return result
  }

  async #kill(step: string): Promise<void> {
    const kill = await killOne(this.#killPlan(), step)
    if (kill !== null) this.#kills.push(kill)
    await this.#until('everything runs again', () => this.#supervised.every((process) => process.running))
  }

  #killPlan() {
    const { gatewayPorts } = this.#world
    // In the order in which they were started: the gateways first.
    const victims = this.#supervised.map((process, i) => ({ process, port: gatewayPorts[i] ?? null }))
    return { random: this.#random, victims, say: this.#options.say }
  }

  async #untilReady(): Promise<void> {
    for (;;) {
      const { result } = await this.#run(['status'])
      if (result['readyForCanary'] === true) return
      await pause(200, this.#options.signal)
    }
  }

  async #atLeast(more: number): Promise<void> {
    const from = this.#load!.acknowledgedWrites
    await this.#until(`${more} more writes`, () => this.#load!.acknowledgedWrites >= from + more)
  }

  async #untilOnTarget(transactions: number): Promise<void> {
    for (;;) {
      if ((await this.#watch!.appliedTransactions()) >= transactions) return
      if (this.#options.signal.aborted) throw new DemoFailed('stopped')
      await pause(200, this.#options.signal)
    }
  }

  async #until(what: string, holds: () => boolean): Promise<void> {
    const deadlineMs = Date.now() + 120_000
    while (!holds()) {
      if (this.#options.signal.aborted) throw new DemoFailed('stopped')
      if (Date.now() > deadlineMs) throw new DemoFailed(`not within two minutes: ${what}`)
      await pause(20, this.#options.signal)
    }
  }
}

function pause(ms: number, signal: AbortSignal): Promise<void> {
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

function lcg(seed: number): () => number {
  let state = seed >>> 0
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    return state / 4294967296
  }
}
