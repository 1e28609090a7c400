// Promises: how soon the judge finds what hurts a canary and how often it goes back without a cause, in simulated lives of a service under
// printed seeds, beside what fixed thresholds and a Mann-Whitney test that is peeked at would have done on the same evidence. Nothing was
// tuned on the seeds that are reported: those below FIRST_UNSEEN were tuned on, and a report says which were run.
import { MannWhitneyWatcher, ThresholdWatcher } from './judge/baselines.ts'
import { type Alarm, JudgeWatcher, type Life, live, PromotionWatcher, type Watcher } from './judge/life.ts'
import { poissonUpper } from './judge/poisson-bound.ts'
import { sameness } from './judge/sameness.ts'
import { type Harm, NO_HARM, type Rates } from './judge/service.ts'
import { DAY_S, WORLDS, type WorldName } from './judge/world.ts'
import { judgeGateway } from './judge-gateway.ts'
import { judgeParts } from './judge-parts.ts'
import { type BenchOptions, type Figure, figure, type Measured, median, peer, quantile } from './measure.ts'

/** Seeds from here on were looked at for reports only. */
const FIRST_UNSEEN = 20_001
const LIVES = 200
const QUICK_LIVES = 8
const DAYS_A_LIFE = 5
/** Of the A/A days, how many the others see: they go back several times a day. */
const LIVES_WITH_OTHERS = 12
const TOTAL_PER_SECOND = 1_000
/** The canary is out all this time; control is known well before anything happens. */
const WARM_S = 900
const LATE_S = 7_200
/** What is not found by then counts as found then. */
const FOUND_MOST_S = 1_800
const HOT: Harm = { hotShare: 0.03, errorShare: 0 }
/** At least half as many requests again over the judge's bound: 0.4 to 0.6 % are over it where nothing is wrong, by the world. */
const HALF_AGAIN: Harm = { hotShare: 0.003, errorShare: 0 }
const PROMOTION_MOST_S = 7_200
const FAILING: Harm = { hotShare: 0, errorShare: 0.049 }
const SAME_SPANS = 4_000

interface Report extends Measured {
  readonly world: WorldName
  readonly seeds: { readonly reported: string; readonly tunedOn: string; readonly disjoint: boolean }
  /** Seconds from onset to rollback, at 50 requests a second of the canary. */
  readonly worlds: Readonly<Record<string, Readonly<Record<string, Delays>>>>
}

interface Delays {
  readonly medianS: number
  readonly p95S: number
  readonly notFound: number
  readonly beforeOnset: number
}

interface Setting {
  readonly options: BenchOptions
  readonly world: WorldName
  readonly seeds: readonly number[]
  readonly aaDays: number
}

export async function benchJudge(options: BenchOptions): Promise<Report> {
  const world = (options.world ?? 'harsh') as WorldName
  const { from, to } = options.seeds ?? { from: FIRST_UNSEEN, to: FIRST_UNSEEN + (options.quick ? QUICK_LIVES : LIVES) - 1 }
  const seeds = Array.from({ length: to - from + 1 }, (_, i) => from + i)
  const setting: Setting = { options, world, seeds, aaDays: options.quick ? 1 : DAYS_A_LIFE }
  const found = await delayFigures(setting)
  const promoted = await promotionFigures(setting)
  const worlds = options.world === null ? await everyWorld(setting) : {}
  const quiet = await quietDays(setting)
  const parts = await judgeParts(options)
  const gateway = await judgeGateway(options)
  const same = sameness(from, options.quick ? SAME_SPANS / 10 : SAME_SPANS, ratesOf(50), 2, options.signal)
  return {
    world,
    seeds: { reported: `${from}-${to}`, tunedOn: `1-${FIRST_UNSEEN - 1}`, disjoint: from >= FIRST_UNSEEN },
    figures: {
      ...found.figures,
      ...promoted.figures,
      ...quiet.figures,
      ...parts.figures,
      ...gateway.figures,
      blockDrawsAlike: figure(same.leastChance, 'chance', { atLeast: 0.001 }),
      blockDrawsCompared: figure(same.spans, 'spans'),
    },
    peers: { ...found.peers, ...quiet.peers, ...parts.peers, ...gateway.peers },
    worlds,
  }
}

export const JUDGE_WORLDS: readonly string[] = Object.keys(WORLDS)

async function delayFigures(setting: Setting): Promise<Measured> {
  const { world } = setting
  const early = { atS: WARM_S, harm: HOT }
  const at50 = await delays(setting, { world, perSecond: 50, onset: early }, () => [new JudgeWatcher(), ...others()])
  const at20 = await delays(setting, { world, perSecond: 20, onset: early })
  const at200 = await delays(setting, { world, perSecond: 200, onset: early })
  const late = await delays(setting, { world, perSecond: 50, onset: { atS: WARM_S + LATE_S, harm: HOT } })
  const failing = await delays(setting, { world, perSecond: 50, onset: { atS: WARM_S, harm: FAILING } }, () => [
    new JudgeWatcher(),
    ...others(),
  ])
  const pair = (name: string, { medianS, p95S }: Delays, goals: { readonly medianS: number; readonly p95S: number }) => ({
    [`${name}MedianS`]: figure(medianS, 's', { atMost: goals.medianS }),
    [`${name}P95S`]: figure(p95S, 's', { atMost: goals.p95S }),
  })
  return {
    figures: {
      ...pair('tail50', at50['judge']!, { medianS: 60, p95S: 120 }),
      ...pair('tail20', at20['judge']!, { medianS: 150, p95S: 210 }),
      ...pair('tail200', at200['judge']!, { medianS: 30, p95S: 60 }),
      lateOnsetRatio: figure(late['judge']!.medianS / at50['judge']!.medianS, 'x', { atMost: 1.2 }),
      errors50MedianS: figure(failing['judge']!.medianS, 's', { atMost: 10 }),
      errors50P95S: figure(failing['judge']!.p95S, 's'),
      notFound: figure(
        [at50, at20, at200, late, failing].reduce((sum, one) => sum + one['judge']!.notFound, 0),
        'lives',
      ),
    },
    peers: Object.fromEntries(
      others().flatMap(({ name }) => [
        [`${name}Tail50MedianS`, peer(at50[name]!.medianS, 's')],
        [`${name}Tail50P95S`, peer(at50[name]!.p95S, 's')],
        [`${name}Errors50MedianS`, peer(failing[name]!.medianS, 's')],
      ]),
    ),
  }
}

/** How long proof takes of a canary that is as good as control, and how many are promoted that have half as many slow requests again. */
async function promotionFigures({ options, world, seeds }: Setting): Promise<Measured> {
  const seconds = WARM_S + PROMOTION_MOST_S
  const promotedAt = async (harm: Harm) => {
    const found: (number | undefined)[] = []
    for (const seed of seeds) {
      const life: Life = { world, seed, rates: ratesOf(50), spanS: 1, seconds, onset: { atS: WARM_S, harm } }
      found.push(live(life, [new PromotionWatcher(WARM_S)], options.signal)[0]?.atS)
      await breathe()
    }
    return found
  }
  const good = (await promotedAt(NO_HARM)).map((atS) => (atS ?? seconds) - WARM_S)
  const bad = (await promotedAt(HALF_AGAIN)).filter((atS) => atS !== undefined).length
  options.say(
    `promotion: ${JSON.stringify({ medianS: median(good), p95S: quantile(good, 0.95), halfAgainPromoted: bad, of: seeds.length })}`,
  )
  return {
    figures: {
      promotion50MedianS: figure(median(good), 's'),
      promotion50P95S: figure(quantile(good, 0.95), 's'),
      // E of 20: one in twenty, whenever one looks.
      halfAgainPromotedShare: figure(bad / seeds.length, 'of lives'),
    },
    peers: {},
  }
}

async function everyWorld(setting: Setting): Promise<Report['worlds']> {
  const worlds: Record<string, Record<string, Delays>> = {}
  for (const world of Object.keys(WORLDS) as WorldName[]) {
    if (world === setting.world) continue
    worlds[world] = await delays(setting, { world, perSecond: 50, onset: { atS: WARM_S, harm: HOT } })
  }
  return worlds
}

function others(): Watcher[] {
  return [new ThresholdWatcher(), new MannWhitneyWatcher()]
}

function ratesOf(canary: number): Rates {
  return { canary, control: TOTAL_PER_SECOND - canary }
}

interface Incident {
  readonly world: WorldName
  readonly perSecond: number
  readonly onset: { readonly atS: number; readonly harm: Harm }
}

/** By watcher: from the onset to the first alarm after it, over all seeds. */
async function delays(
  { options, seeds }: Setting,
  { world, perSecond, onset }: Incident,
  watchers: () => Watcher[] = () => [new JudgeWatcher()],
): Promise<Record<string, Delays>> {
  const alarms: Alarm[][] = []
  for (const seed of seeds) {
    const life: Life = { world, seed, rates: ratesOf(perSecond), spanS: 1, seconds: onset.atS + FOUND_MOST_S, onset }
    alarms.push(live(life, watchers(), options.signal))
    await breathe()
  }
  const of = (name: string): Delays => {
    const own = alarms.map((all) => all.filter(({ watcher }) => watcher === name))
    const found = own.map((all) => all.find(({ atS }) => atS > onset.atS))
    const seconds = found.map((alarm) => (alarm === undefined ? FOUND_MOST_S : alarm.atS - onset.atS))
    const beforeOnset = own.reduce((sum, all) => sum + all.filter(({ atS }) => atS <= onset.atS).length, 0)
    return {
      medianS: median(seconds),
      p95S: quantile(seconds, 0.95),
      notFound: found.filter((alarm) => alarm === undefined).length,
      beforeOnset,
    }
  }
  const all = Object.fromEntries(watchers().map(({ name }) => [name, of(name)]))
  options.say(`${world}, ${perSecond}/s, onset at ${onset.atS} s, ${seeds.length} seeds: ${JSON.stringify(all)}`)
  return all
}

/** Days on which nothing is wrong. */
async function quietDays({ options, world, seeds, aaDays }: Setting): Promise<Measured> {
  const count: Record<string, number> = {}
  const fromMs = performance.now()
  for (const [i, seed] of seeds.entries()) {
    const watchers = [new JudgeWatcher(), ...(i < LIVES_WITH_OTHERS ? others() : [])]
    // A span is a block at 50 requests a second: twice as long as live, half as many.
    const alarms = live({ world, seed, rates: ratesOf(50), spanS: 2, seconds: aaDays * DAY_S, onset: null }, watchers, options.signal)
    for (const { watcher } of alarms) count[watcher] = (count[watcher] ?? 0) + 1
    for (const { watcher, atS, by } of alarms) if (watcher === 'judge') options.say(`seed ${seed}: false rollback by ${by} at ${atS} s`)
    if (i % 10 === 9) options.say(`${(i + 1) * aaDays} A/A days: ${JSON.stringify(count)}`)
    await breathe()
  }
  const days = seeds.length * aaDays
  const othersDays = Math.min(seeds.length, LIVES_WITH_OTHERS) * aaDays
  const none = count['judge'] ?? 0
  const in30 = (events: number, of: number) => (events * 30) / of
  const figures: Record<string, Figure> = {
    falseRollbacksIn30Days: figure(in30(none, days), 'rollbacks', { atMost: 0.1 }),
    falseRollbacksIn30DaysAtMost: figure(in30(poissonUpper(none, 0.95), days), 'at 95 %'),
    aaDays: figure(days, 'days', { atLeast: 900 }),
    falseRollbacks: figure(none, 'rollbacks'),
    aaMicrosecondsPerSpan: figure(((performance.now() - fromMs) * 1_000) / ((days * DAY_S) / 2), 'us'),
  }
  // Not with the peers: there a figure of 0 is one that was not measured.
  for (const { name } of others()) figures[`${name}FalseIn30Days`] = figure(in30(count[name] ?? 0, othersDays), 'rollbacks')
  return { figures, peers: {} }
}

/** Signals get through between two lives. */
function breathe(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve))
}
