// Promises: an incident on this machine: the move under load, something that goes wrong two thirds into a step, the judge's verdict, the
// traffic back and both stores compared; nobody types a rollback. Leaves nothing running and nothing behind, also on Ctrl-C.
import { seededRandom } from '../../src/lib/prng.ts'
import { hashSlotOf } from '../../src/model/key.ts'
import { checkLedger } from './check.ts'
import { type DebtRound, playDebt } from './debt-round.ts'
import { FAULT_ACTS } from './fault-acts.ts'
import { playFault } from './fault-round.ts'
import { type IncidentReport, incidentReport, type Round } from './incident-report.ts'
import { type Fault, INCIDENTS, type IncidentName } from './incidents.ts'
import { type Parity, played, type Stage, type StageOptions } from './stage.ts'
import { rowsInDynamo, rowsInPostgres } from './stores.ts'

export interface IncidentOptions extends StageOptions {
  readonly incident: IncidentName
}

/** How long a step is out before the next one would be taken. */
const STEP_MS = 30_000
const WRITES_A_STEP = 100

/** Throws DemoFailed when a command failed or the signal came; the evidence decides the rest. */
export function runIncident(options: IncidentOptions): Promise<IncidentReport> {
  const startedMs = Date.now()
  const { judge } = INCIDENTS[options.incident]
  return played(options, { lines: true, judge }, async (stage) => {
    const story = new Story(stage, options)
    await story.tell()
    return story.report(startedMs)
  })
}

class Story {
  readonly #stage: Stage
  readonly #options: IncidentOptions
  readonly #rounds: Round[] = []
  readonly #random: () => number
  #parity: Parity | null = null
  #debt: DebtRound | null = null

  constructor(stage: Stage, options: IncidentOptions) {
    this.#stage = stage
    this.#options = options
    const random = seededRandom(options.seed)
    this.#random = () => random.next()
  }

  async tell(): Promise<void> {
    const { incident, say } = this.#options
    await this.#stage.copy()
    for (const fault of INCIDENTS[incident].faults) await this.#goWrong(fault)
    // For good is for good, for all that is judged: it comes back only once the keys are served without it.
    if (this.#rounds.some(({ fault, backMs }) => fault === 'no answers' && backMs !== null)) this.#debt = await playDebt(this.#stage, say)
    await this.#stage.load.stopArrivals()
    if (this.#storeAnswers) this.#parity = await this.#stage.parity()
    else say('The store cannot be asked: PostgreSQL alone is held against the journal of acknowledged writes.')
  }

  async report(startedMs: number): Promise<IncidentReport> {
    const { world, load, watch } = this.#stage
    const { counts, writes } = await this.#stage.journaled()
    const inStore = () => rowsInDynamo(world.dynamo, (item) => item['_sb_deleted'] !== undefined)
    return incidentReport({
      incident: this.#options.incident,
      rounds: this.#rounds,
      rollbacks: await watch.rollbacks(),
      samples: load.samples,
      counts,
      source: checkLedger(writes, await rowsInPostgres(world.databaseUrl)),
      target: this.#storeAnswers ? checkLedger(writes, await inStore()) : null,
      parity: this.#parity,
      debt: this.#debt,
      durationMs: Date.now() - startedMs,
      slotOf: (account) => hashSlotOf(String(account)),
    })
  }

  get #storeAnswers(): boolean {
    return this.#options.incident !== 'dead-target' || this.#debt?.parkedHomeMs != null
  }

  async #goWrong(fault: Fault): Promise<void> {
    const { incident, say, accounts } = this.#options
    const { canary } = INCIDENTS[incident]
    const before = await this.#stage.watch.rollbacks()
    if (before === 0) {
      say('switchback canary start 1%: reads and writes of 1 % of the keys move to the store.')
      await this.#stage.run(['canary', 'start', '1%'])
      await this.#stage.atLeast(WRITES_A_STEP)
    }
    const verb = before === 0 ? 'advance' : 'start'
    say(`switchback canary ${verb} ${canary}: the step in which it goes wrong, after two thirds of its ${STEP_MS / 1_000} s.`)
    await this.#stage.run(['canary', verb, canary])
    await this.#stage.pause((STEP_MS * 2) / 3)
    await this.#stage.notYetJudged(before)
    this.#rounds.push(await playFault(this.#stage, fault, { accounts, random: this.#random, say }))
    // A dead store has an end of its own.
    if (fault !== 'no answers') FAULT_ACTS[fault].end(this.#stage)
  }
}
