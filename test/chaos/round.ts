// Promises: one round: the keys go out and come home, over and over, while what the plan says breaks; then everything is let recover, the
// keys go home, and both stores and the control schema are judged. An operator does nothing but run again a command that was broken.
import { setTimeout as sleep } from 'node:timers/promises'
import { checkLedger } from '../../examples/ledger/check.ts'
import { readJournal } from '../../examples/ledger/journal.ts'
import { rowsInDynamo, rowsInPostgres } from '../../examples/ledger/stores.ts'
import { seededRandom } from '../../src/lib/prng.ts'
import { Turns } from '../../src/lib/turns.ts'
import { HASH_SLOTS } from '../../src/model/key.ts'
import { eventually } from '../support/eventually.ts'
import { firstAnswer, isWritten } from './answers.ts'
import { checkJudge, type JudgeChecked } from './judge-check.ts'
import { isAllReported, isCanaryOut, readJudgeRows, rollbacksSoFar } from './judge-rows.ts'
import {
  type BrokenLine,
  CONTROLLERS,
  type Event,
  GATEWAYS,
  type Plan,
  type PlanOptions,
  type ProcessName,
  planRound,
  type StoreName,
} from './plan.ts'
import type { Armed, CommandName } from './points.ts'
import { isController, openScene, type Scene } from './scene.ts'

/** A process that has not come to its point by then is killed from outside. */
const POINT_REACHED_MS = 3_000
/** What is not served again by then counts as not recovered. */
const RECOVERS_MS = 30_000
const ENDS_MS = 90_000
/** From silence to a verdict, another leader's gathering among it. */
const VERDICT_MS = 30_000
/** The way home and the comparison after it. */
const JUDGED_POINT_REACHED_MS = 20_000
/** Above lease and margin, and above what a leader's heart may stand still. */
const STOPPED_MS = 7_000
const LEADER_LOOK_MS = 50
const DONE_ALREADY = /FLIP_NOTHING_TO_DO|on the (target|source) already/
/** The slots of a killed command's order are no other order's, so that its row is known by them. */
const SLOTS_AN_ORDER = 4
const WITHOUT_ORDER = { parity: ['parity', '--full'], repair: ['parity', '--repair', '--apply'], reconcile: ['reconcile'] }
const ORDERS = [['canary', 'start', '20%'], ['canary', 'advance', '60%'], ['canary', 'advance', '100%'], ['rollback']]

export interface RoundOptions extends PlanOptions {
  readonly seed: number
  readonly say: (text: string) => void
  readonly signal: AbortSignal
}

export interface Killed {
  readonly who: string
  /** The part of the protocol and the point; 'outside': it did not come there in time, or is a store. */
  readonly at: string
  /** From its restart, or of a leader from its death, until served again; null: it serves nobody. */
  readonly recoveryMs: number | null
}

export interface RoundReport {
  readonly seed: number
  readonly killed: readonly Killed[]
  readonly linesBroken: number
  readonly stopped: number
  readonly acknowledgedWrites: number
  readonly unknownWrites: number
  readonly lost: readonly string[]
  readonly doubled: readonly string[]
  readonly parityDifferences: number
  /** Sentences. */
  readonly violations: readonly string[]
  /** Sentences: who was not served again in time. */
  readonly notRecovered: readonly string[]
  readonly flips: number
  /** Null: it was off. */
  readonly judge: JudgeChecked | null
}

export async function runRound(options: RoundOptions): Promise<RoundReport> {
  const plan = planRound(seededRandom(options.seed), options)
  const scene = await openScene({ seed: options.seed, judged: options.verdicts !== null, signal: options.signal })
  try {
    const round = new Round(scene, options)
    return await round.play(plan)
  } catch (error) {
    throw new Error(`round of seed ${options.seed}: ${String(error)}\n${logsOf(scene)}`, { cause: error })
  } finally {
    await scene.close()
  }
}

class Round {
  readonly #scene: Scene
  readonly #options: RoundOptions
  readonly #killed: Killed[] = []
  readonly #notRecovered: string[] = []
  readonly #ordered: OrderLeft[] = []
  readonly #wrongOrders: string[] = []
  /** The one who moves the keys there and back stands aside while a verdict is brought about. */
  readonly #operator = new Turns({ waitingMax: 2, full: () => new Error('nobody waits for the operator twice') })
  #orders = 0
  #linesBroken = 0
  #stopped = 0

  constructor(scene: Scene, options: RoundOptions) {
    this.#scene = scene
    this.#options = options
  }

  async play(plan: Plan): Promise<RoundReport> {
    await eventually(() => this.#scene.loads.every((load) => load.acknowledgedWrites > 0), 'service begins', RECOVERS_MS)
    await this.#backfill(plan.backfill)
    const over = new AbortController()
    const moving = this.#move(over.signal)
    moving.catch(() => over.abort()) // told below
    for (const { after, event } of plan.events) {
      if (over.signal.aborted) break
      await this.#acknowledged(after)
      await this.#happen(event)
    }
    over.abort()
    await moving
    return this.#judged()
  }

  /** The order that is under way ends as it should; a command that was broken is run again. */
  async #move(over: AbortSignal): Promise<void> {
    while (!over.aborted) for (const order of ORDERS) if (!over.aborted) await this.#operator.take(() => this.#order(order))
    // The second way out pays what went home in debt while the target was silent.
    for (const order of [['rollback'], ['canary', 'start', '10%'], ['rollback']]) await this.#order(order)
  }

  async #order(args: readonly string[]): Promise<void> {
    let last = ''
    await eventually(
      async () => {
        const { exitCode, stderr } = await this.#scene.command(args)
        last = stderr
        return exitCode === 0 || DONE_ALREADY.test(stderr)
      },
      `switchback ${args.join(' ')}`,
      ENDS_MS,
    ).catch((error: unknown) => {
      throw new Error(`switchback ${args.join(' ')}: ${last}`, { cause: error })
    })
  }

  async #backfill(armed: Armed): Promise<void> {
    const { exitCode, signal, stderr } = await this.#scene.commandArmed(['backfill'], armed)
    if (signal === 'SIGKILL') this.#tell({ who: 'backfill', at: `${armed.of}: ${armed.point}`, recoveryMs: null })
    else if (exitCode !== 0) throw new Error(`switchback backfill: ${stderr}`)
    await eventually(
      async () => {
        const again = await this.#scene.command(['backfill'])
        return again.exitCode === 0 || /BACKFILL_DONE/.test(again.stderr)
      },
      'the backfill goes on from where it was',
      ENDS_MS,
    )
    await eventually(async () => (await this.#scene.command(['status'])).result['readyForCanary'] === true, 'ready', ENDS_MS)
  }

  async #happen(event: Event): Promise<void> {
    if (event.kind === 'kill process') await this.#killProcess(event)
    else if (event.kind === 'kill command') await this.#killCommand(event)
    else if (event.kind === 'kill store') await this.#killStore(event.who)
    else if (event.kind === 'stop') await this.#stop(event.who)
    else if (event.kind === 'verdict') await this.#operator.take(() => this.#turnBack(event))
    else {
      this.#options.say(`${event.broken.fault} from ${event.broken.line.from} to ${event.broken.line.to}, ${event.ms} ms`)
      this.#break(event.broken)
      await sleep(event.ms, undefined, { signal: this.#options.signal })
      this.#scene.line(event.broken.line).mend()
      await this.#recovered('the line', async () => this.#answered(GATEWAYS, Date.now()))
    }
  }

  #break({ line, fault }: BrokenLine): void {
    this.#linesBroken++
    this.#scene.line(line).break(fault)
  }

  async #killProcess({ who, armed, broken }: Extract<Event, { kind: 'kill process' }>): Promise<void> {
    const name = who === 'leader' ? (await this.#leader()).name : who
    const victim = this.#scene.processes.get(name)!
    await eventually(() => victim.running, `${name} runs`, RECOVERS_MS)
    const before = isController(name) ? await this.#leader() : null
    if (broken !== null) this.#break(broken)
    const gone = victim.gone()!
    this.#scene.arm(name, armed)
    const { at, goneMs } = await this.#dead(name, { gone, armed, withinMs: POINT_REACHED_MS })
    if (broken !== null) this.#scene.line(broken.line).mend()
    const restartedMs = await eventually(() => victim.running && Date.now(), `${name} is started again`, RECOVERS_MS)
    const recoveryMs =
      before === null
        ? await this.#recovered(name, () => this.#answered([name as (typeof GATEWAYS)[number]], restartedMs))
        : await this.#recovered(name, () => this.#leads(before, goneMs))
    this.#tell({ who: name, at, recoveryMs })
  }

  /** By itself at the point, or from outside where it has not come there in time. */
  async #dead(
    name: ProcessName,
    { gone, armed, withinMs }: { readonly gone: Promise<number>; readonly armed: Armed; readonly withinMs: number },
  ): Promise<{ readonly at: string; readonly goneMs: number }> {
    const reached = await Promise.race([gone.then(() => true), sleep(withinMs, false)])
    if (!reached) this.#scene.processes.get(name)!.kill()
    const goneMs = await gone
    this.#scene.arm(name, null)
    return { at: reached ? `${armed.of}: ${armed.point}` : 'outside', goneMs }
  }

  async #turnBack({ dies, armed, fault, moving }: Extract<Event, { kind: 'verdict' }>): Promise<void> {
    const { query, processes } = this.#scene
    // Of all keys, none would be left to move.
    if (moving) await this.#order(['rollback'])
    await this.#canaryOut()
    const leader = await this.#leader()
    const rollbacks = await rollbacksSoFar(query)
    const gone = processes.get(leader.name)!.gone()
    if (gone === null) return
    const move = moving ? await this.#moveInTheWay() : null
    // A next leader has its flip to cancel first.
    void gone.then(() => move?.letGo())
    if (dies === 'verdict') this.#scene.arm(leader.name, armed)
    for (const to of CONTROLLERS) this.#break({ line: { from: 'gateways', to }, fault })
    const verdict = eventually(async () => (await rollbacksSoFar(query)) > rollbacks, 'a verdict on a silent canary', VERDICT_MS)
    await this.#recovered('the judge', async () => Number(await verdict))
    await move?.letGo()
    for (const to of CONTROLLERS) this.#scene.line({ from: 'gateways', to }).mend()
    if (dies === 'again') this.#scene.arm(leader.name, armed)
    const again = dies === 'again' ? this.#canaryOut() : Promise.resolve()
    const { at, goneMs } = await this.#dead(leader.name, { gone, armed, withinMs: JUDGED_POINT_REACHED_MS })
    this.#tell({ who: leader.name, at, recoveryMs: await this.#recovered(leader.name, () => this.#leads(leader, goneMs)) })
    await Promise.all([again, move?.ended])
  }

  /** More keys on their way out, whose flip gets no further: somebody holds what it must lock. */
  async #moveInTheWay(): Promise<{ readonly letGo: () => Promise<void>; readonly ended: Promise<unknown> }> {
    const { command, hold, query } = this.#scene
    const letGo = await hold(`select 1 from switchback.ownership where owner = 'source' for update`)
    const ended = command(['canary', 'advance', '60%'])
    const begun = async () => (await query(`select 1 from switchback.flip where owner_to = 'target' and state = 'intent'`)).length > 0
    await eventually(begun, 'a flip to the target has begun', RECOVERS_MS)
    return { letGo, ended }
  }

  /** As a person would have it: ordered again for as long as the judge, or what breaks, turns it back. */
  async #canaryOut(): Promise<void> {
    const out = async () => {
      await this.#scene.command(['canary', 'start', '20%'])
      return isCanaryOut(this.#scene.query)
    }
    await eventually(out, 'a canary is out', ENDS_MS)
  }

  /** What it ordered is carried out, or refused by name, with nobody there to hear of it. */
  async #killCommand({ command, armed }: Extract<Event, { kind: 'kill command' }>): Promise<void> {
    // A point that it passes seldom may not have come; the first passing of it does.
    for (const hit of [...new Set([armed.hit, 1])]) {
      const first = HASH_SLOTS - ++this.#orders * SLOTS_AN_ORDER
      const { args, slots } = commandOf(command, first)
      const { signal, exitCode, stderr } = await this.#scene.commandArmed(args, { ...armed, hit })
      const died = signal === 'SIGKILL'
      if (slots !== null)
        await this.#orderEnds({ slots, of: `${args.join(' ')} (${died ? armed.point : 'not killed'})` }, died ? armed.point : null)
      if (command === 'readonly') await this.#order(['readonly', 'off', '--slots', `${first}-${first + SLOTS_AN_ORDER - 1}`])
      if (died) return this.#tell({ who: command, at: `${armed.of}: ${armed.point}`, recoveryMs: null })
      this.#options.say(`${args.join(' ')} ended before ${armed.point}: exit code ${exitCode} ${stderr.trim().split('\n').at(-1)}`)
    }
  }

  async #orderEnds({ slots, of }: { slots: string; of: string }, point: string | null): Promise<void> {
    const look = () =>
      this.#scene.query(
        `select id::text as id, state, ended_at::text as ended, result ->> 'because' as because from switchback.job
          where arguments -> 'slots' = '${slots}'::jsonb and coalesce(arguments ->> 'on', 'true') = 'true' order by id`,
      )
    const rows = await eventually(
      async () => {
        const now = await look().catch(() => null)
        return now?.every(({ ended }) => ended !== null) && now
      },
      `the order of ${of} ends`,
      ENDS_MS,
    )
    const notPlaced = point === 'before insert into switchback.job' || (point?.endsWith('hold_moves') ?? false)
    if (point !== null && rows.length !== (notPlaced ? 0 : 1)) this.#wrongOrders.push(`${of} placed ${rows.length} orders`)
    for (const { state, because } of rows)
      if (state !== 'done' && because === null) this.#wrongOrders.push(`the order of ${of} is ${state}, and nobody says why`)
    this.#ordered.push({ of, look, ended: JSON.stringify(rows) })
  }

  async #killStore(who: StoreName): Promise<void> {
    const { world } = this.#scene
    // A write to a key that the target has is what shows that it serves.
    const onTarget = who === 'target' ? await this.#slotsOnTarget() : null
    if (who === 'target') await world.killAndRestartTarget()
    else {
      await world.postgres.kill()
      await world.postgres.start()
    }
    const recoveryMs = await this.#recovered(who, () => this.#answered(GATEWAYS, Date.now(), onTarget))
    this.#tell({ who, at: 'outside', recoveryMs })
  }

  async #stop(who: 'leader' | (typeof GATEWAYS)[number]): Promise<void> {
    const before = who === 'leader' ? await this.#leader() : null
    const name = before?.name ?? (who as ProcessName)
    const { pid } = this.#scene.processes.get(name)!
    if (pid === null) return
    this.#options.say(`SIGSTOP of ${name}, ${STOPPED_MS} ms`)
    this.#stopped++
    process.kill(pid, 'SIGSTOP')
    try {
      await sleep(STOPPED_MS, undefined, { signal: this.#options.signal })
    } finally {
      process.kill(pid, 'SIGCONT')
    }
    if (before !== null) await this.#recovered(name, () => this.#leads(before, Date.now()))
    await this.#recovered(name, () => this.#answered(GATEWAYS, Date.now()))
  }

  /** Null: not in time, which is noted. */
  async #recovered(who: string, served: () => Promise<number>): Promise<number | null> {
    try {
      return await served()
    } catch (error) {
      this.#notRecovered.push(`${who}: ${String(error)}`)
      return null
    }
  }

  /** Until a write that was sent after `sinceMs` to each of the gateways is acknowledged: ms. */
  async #answered(
    gateways: readonly (typeof GATEWAYS)[number][],
    sinceMs: number,
    slots: ReadonlySet<number> | null = null,
  ): Promise<number> {
    const times = await Promise.all(
      gateways.map((gateway) => {
        const load = this.#scene.loads[GATEWAYS.indexOf(gateway)]!
        const asked = { from: load.samples.length, sinceMs, slots: slots !== null && isWritten(slots) ? slots : null }
        return eventually(() => firstAnswer(load, asked), `a write through ${gateway} is acknowledged`, RECOVERS_MS)
      }),
    )
    return Math.max(...times) - sinceMs
  }

  /** Until another lead than before does its work: ms. */
  async #leads(before: Lead, sinceMs: number): Promise<number> {
    await eventually(
      async () => {
        await sleep(LEADER_LOOK_MS)
        const { token, heart } = await this.#leader()
        return token > before.token && heart === token
      },
      'a controller leads',
      RECOVERS_MS,
    )
    return Date.now() - sinceMs
  }

  async #leader(): Promise<Lead> {
    return eventually(
      async () => {
        const [row] = await this.#scene.query(
          `select l.name, l.token::text as token, h.token::text as heart from switchback.leader l, switchback.heartbeat h`,
        )
        const name = CONTROLLERS.find((one) => one === row?.['name'])
        return name !== undefined && { name, token: Number(row!['token']), heart: Number(row!['heart']) }
      },
      'who leads is known',
      RECOVERS_MS,
    )
  }

  async #slotsOnTarget(): Promise<ReadonlySet<number>> {
    const rows = await this.#scene.query(`select slot::text as slot from switchback.ownership where owner = 'target'`)
    return new Set(rows.map((row) => Number(row['slot'])))
  }

  async #acknowledged(more: number): Promise<void> {
    const { loads } = this.#scene
    const sum = () => loads.reduce((n, load) => n + load.acknowledgedWrites, 0)
    const from = sum()
    await eventually(() => sum() >= from + more, `${more} writes are acknowledged`, RECOVERS_MS)
  }

  #tell(killed: Killed): void {
    this.#killed.push(killed)
    const again = killed.recoveryMs === null ? '' : `, served again after ${Math.round(killed.recoveryMs)} ms`
    this.#options.say(`kill -9 of ${killed.who} (${killed.at})${again}`)
  }

  async #judged(): Promise<RoundReport> {
    const { loads, world } = this.#scene
    const counts = await Promise.all(loads.map((load) => load.stop()))
    const sum = (of: 'acknowledgedWrites' | 'unknownWrites' | 'staleReads' | 'halfReads') => counts.reduce((n, each) => n + each[of], 0)
    const parity = await this.#scene.command(['parity', '--full'])
    if (typeof parity.result['differences'] !== 'number') throw new Error(`switchback parity --full: ${parity.stderr}`)
    const writes = loads.flatMap((_, i) => readJournal(this.#scene.journalPath(i)))
    const source = checkLedger(writes, await rowsInPostgres(world.databaseUrl))
    const target = checkLedger(writes, await rowsInDynamo(world.dynamo, (item) => item['_sb_deleted'] !== undefined))
    const both = (of: 'lost' | 'doubled' | 'unbalanced') => [...new Set([...source[of], ...target[of]])]
    const violations = [
      ...both('unbalanced').map((account) => `the balance of account ${account} is not the sum of its entries`),
      ...(sum('staleReads') > 0 ? [`${sum('staleReads')} stale reads`] : []),
      ...(sum('halfReads') > 0 ? [`${sum('halfReads')} reads of half a transaction`] : []),
      ...(parity.result['rowsNotChecked'] === 0 ? [] : [`parity did not check ${String(parity.result['rowsNotChecked'])} rows`]),
      ...(await this.#leftBehind()),
    ]
    const judge = this.#options.verdicts === null ? null : await this.#judgeChecked()
    return {
      seed: this.#options.seed,
      killed: this.#killed,
      linesBroken: this.#linesBroken,
      stopped: this.#stopped,
      acknowledgedWrites: sum('acknowledgedWrites'),
      unknownWrites: sum('unknownWrites'),
      lost: both('lost'),
      doubled: both('doubled'),
      parityDifferences: parity.result['differences'],
      violations: [...violations, ...(judge?.failures ?? []).map(({ what }) => what)],
      notRecovered: this.#notRecovered,
      flips: Number((await this.#scene.query(`select count(*)::text as n from switchback.flip where state = 'routed'`))[0]!['n']),
      judge,
    }
  }

  async #judgeChecked(): Promise<JudgeChecked> {
    const { query } = this.#scene
    // What is not is a failure of the check.
    await eventually(() => isAllReported(query), 'all rollbacks are reported', ENDS_MS).catch(() => undefined)
    return checkJudge(await readJudgeRows(query))
  }

  /** At home, every slot is PostgreSQL's and steady, and no flip, poison or debt is open. */
  async #leftBehind(): Promise<string[]> {
    const counted = async (what: string, sql: string) => {
      const [row] = await this.#scene.query(`select count(*)::text as n from ${sql}`)
      return row!['n'] === '0' ? [] : [`${row!['n']} ${what}`]
    }
    const again: string[] = []
    for (const { of, look, ended } of this.#ordered)
      if (JSON.stringify(await look()) !== ended) again.push(`the order of ${of} was taken up again after its end`)
    return [
      ...this.#wrongOrders,
      ...again,
      ...(await counted('orders are open', `switchback.job where state in ('open', 'running')`)),
      ...(await counted('slots are not steady on PostgreSQL', `switchback.ownership where owner <> 'source' or phase <> 'steady'`)),
      ...(await counted('flips are open', `switchback.flip where state not in ('cancelled', 'routed')`)),
      ...(await counted('slots are in debt', 'switchback.debt')),
      ...(await counted('aggregates are poisoned', 'switchback.poison')),
    ]
  }
}

interface OrderLeft {
  readonly of: string
  readonly look: () => Promise<unknown>
  /** As it had ended. */
  readonly ended: string
}

/** `slots`: of its order, as JSON; null: it places none. */
function commandOf(command: CommandName, first: number): { readonly args: readonly string[]; readonly slots: string | null } {
  if (command === 'parity' || command === 'repair' || command === 'reconcile') return { args: WITHOUT_ORDER[command], slots: null }
  const words = { canary: ['canary', 'start'], rollback: ['rollback'], readonly: ['readonly', 'on'] }[command]
  const slots = Array.from({ length: SLOTS_AN_ORDER }, (_, i) => first + i)
  return { args: [...words, '--slots', `${first}-${first + SLOTS_AN_ORDER - 1}`], slots: JSON.stringify(slots) }
}

interface Lead {
  readonly name: (typeof CONTROLLERS)[number]
  readonly token: number
  /** The token under which its heart beats. */
  readonly heart: number
}

function logsOf(scene: Scene): string {
  return [...scene.processes.values()]
    .map(({ name, log, restarts }) => `--- ${name}, ${restarts} restarts\n${log.slice(-3_000)}`)
    .join('\n')
}
