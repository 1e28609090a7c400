// Promises: the whole move there and back on this machine, under load, by the commands a user types; says in plain sentences what
// happens; leaves nothing running and nothing behind, also on Ctrl-C.
import { hashSlotOf } from '../../src/model/key.ts'
import { checkLedger } from './check.ts'
import { FAULT_ACTS } from './fault-acts.ts'
import { playFault } from './fault-round.ts'
import type { Round } from './incident-report.ts'
import type { CommandResult } from './processes.ts'
import { demoReport, type Kill } from './report.ts'
import { type Parity, played, type Stage, type StageOptions } from './stage.ts'
import { rowsInDynamo, rowsInPostgres } from './stores.ts'
import { killInsideFlip, killOne } from './watch.ts'

export interface DemoOptions extends Omit<StageOptions, 'connectionsPerGateway'> {
  readonly kills: number
}

export type DemoReport = ReturnType<typeof demoReport>

const READONLY_MS = 3_000
/** Acknowledged writes that the target must have taken before the way home, and in all before the load ends. */
const WRITES_ON_TARGET = 2_000
const WRITES_IN_ALL = 5_500
const CONNECTIONS_PER_GATEWAY = 24
/** What the judge sees soonest. */
const FAULT = 'refused requests'
const WRITES_BEFORE_FAULT = 100
const JUDGED_CANARY = '20%'

/** Throws DemoFailed when a command failed or the signal came; the evidence decides the rest. */
export function runDemo(options: DemoOptions): Promise<DemoReport> {
  const startedMs = Date.now()
  return played(
    { ...options, connectionsPerGateway: CONNECTIONS_PER_GATEWAY },
    { lines: true, judge: { enabled: false } },
    async (stage) => {
      const story = new Story(stage, options)
      await story.tell()
      return story.report(startedMs)
    },
  )
}

class Story {
  readonly #stage: Stage
  readonly #options: DemoOptions
  readonly #kills: Kill[] = []
  readonly #readonlyWindows: (readonly [number, number])[] = []
  readonly #random: () => number
  #rollbackMs = 0
  #parity: Parity = { rowsCompared: 0, differences: 0, notChecked: 0 }
  #onTarget = 0
  #judged: Round | null = null

  constructor(stage: Stage, options: DemoOptions) {
    this.#stage = stage
    this.#options = options
    this.#random = lcg(options.seed)
  }

  async tell(): Promise<void> {
    await this.#stage.copy()
    await this.#moveOut()
    await this.#stopWrites()
    await this.#comeHome()
    await this.#letTheJudge()
    await this.#stage.load.stopArrivals()
    this.#parity = await this.#stage.parity()
  }

  async report(startedMs: number): Promise<DemoReport> {
    const { world, load, watch } = this.#stage
    this.#options.say('The load has stopped. Each store is asked, by its own client, what it holds of the journal.')
    const { counts, writes } = await this.#stage.journaled()
    return demoReport({
      samples: load.samples,
      counts,
      source: checkLedger(writes, await rowsInPostgres(world.databaseUrl)),
      target: checkLedger(writes, await rowsInDynamo(world.dynamo, (item) => item['_sb_deleted'] !== undefined)),
      acknowledgedOnTarget: this.#onTarget,
      flips: await watch.flips(),
      kills: this.#kills,
      readonlyWindows: this.#readonlyWindows,
      rollbackDurationMs: this.#rollbackMs,
      judged: this.#judged!,
      parity: this.#parity,
      durationMs: Date.now() - startedMs,
      slotOf: (account) => hashSlotOf(String(account)),
    })
  }

  async #moveOut(): Promise<void> {
    const { say, kills } = this.#options
    say('switchback canary start 1%: reads and writes of 1 % of the keys move to the store.')
    await this.#stage.run(['canary', 'start', '1%'])
    await this.#stage.atLeast(300)
    if (kills >= 3) await this.#kill('canary at 1 %')
    say('switchback canary advance 25%.')
    await this.#withKill(kills >= 1 ? 'target' : null, () => this.#stage.run(['canary', 'advance', '25%']))
    await this.#stage.atLeast(800)
    for (let extra = 3; extra < kills; extra++) await this.#kill('canary at 25 %')
    say('switchback canary advance 100%: PostgreSQL serves none of these keys any more.')
    await this.#stage.run(['canary', 'advance', '100%'])
    await this.#stage.untilOnTarget(WRITES_ON_TARGET)
  }

  async #stopWrites(): Promise<void> {
    const { say } = this.#options
    say('switchback readonly on: reads go on, writes are answered with SQLSTATE 25006.')
    const fromMs = Date.now()
    await this.#stage.run(['readonly', 'on'])
    await this.#stage.pause(READONLY_MS)
    await this.#stage.run(['readonly', 'off'])
    this.#readonlyWindows.push([fromMs, Date.now()])
    say(`switchback readonly off, after ${Date.now() - fromMs} ms.`)
  }

  async #comeHome(): Promise<void> {
    const { say, kills } = this.#options
    await this.#stage.until(`${WRITES_IN_ALL} writes are acknowledged`, () => this.#stage.load.acknowledgedWrites >= WRITES_IN_ALL)
    say('switchback rollback: the keys return to PostgreSQL by the reverse sync, under load.')
    const fromMs = Date.now()
    const rollback = await this.#withKill(kills >= 2 ? 'source' : null, () => this.#stage.run(['rollback']))
    this.#rollbackMs = Number(rollback.result['durationMs'] ?? Date.now() - fromMs)
    this.#onTarget = await this.#stage.watch.appliedTransactions()
  }

  /**
   * The last rollback is nobody's command. Only here is the judge on: what the demo shows before is to go through on a machine that is too busy
   * for its load, too, which a judge would rightly call worse than PostgreSQL.
   */
  async #letTheJudge(): Promise<void> {
    const { say, accounts } = this.#options
    say('The judge is switched on in switchback.config.ts, and the controller started again.')
    this.#stage.world.configureJudge({})
    await this.#stage.processes.find(({ name }) => name === 'controller')!.restart()
    await this.#stage.untilReady()
    say(`switchback canary start ${JUDGED_CANARY}: once more, and now something goes wrong.`)
    await this.#stage.run(['canary', 'start', JUDGED_CANARY])
    await this.#stage.atLeast(WRITES_BEFORE_FAULT)
    this.#judged = await playFault(this.#stage, FAULT, { accounts, random: this.#random, say })
    FAULT_ACTS[FAULT].end(this.#stage)
  }

  /** Runs a command, and a kill -9 in the middle of one of its flips. */
  async #withKill(owner: string | null, work: () => Promise<CommandResult>): Promise<CommandResult> {
    if (owner === null) return work()
    const done = new AbortController()
    const killing = killInsideFlip(this.#stage.watch, owner, this.#killPlan(), done.signal)
    const result = await work().finally(() => done.abort())
    const kill = await killing
    if (kill !== null) this.#kills.push(kill)
    return result
  }

  async #kill(step: string): Promise<void> {
    const kill = await killOne(this.#killPlan(), step)
    if (kill !== null) this.#kills.push(kill)
    await this.#stage.until('everything runs again', () => this.#stage.processes.every((process) => process.running))
  }

  #killPlan() {
    const { gatewayPorts } = this.#stage.world
    const victims = this.#stage.processes.map((process, i) => ({ process, port: gatewayPorts[i] ?? null }))
    return { random: this.#random, victims, say: this.#options.say }
  }
}

function lcg(seed: number): () => number {
  let state = seed >>> 0
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    return state / 4294967296
  }
}
