// Promises: walks seeds in a process of its own, where the test runner's tracking of every promise does not slow them tenfold.
import { fork } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { PLANTS, type PlantName } from './plants.ts'
import { type WalkResult, walk } from './walk.ts'

export interface WalkOrder {
  readonly from: number
  readonly to: number
  readonly plant: PlantName | null
  /** Stop at the first seed that fails. */
  readonly first: boolean
}

export interface WalkReport {
  readonly failing: readonly string[]
  readonly walked: number
  readonly sum: Record<Exclude<keyof WalkResult, 'bad'>, number>
}

export function walkSeeds(order: WalkOrder): Promise<WalkReport> {
  return new Promise((resolve, reject) => {
    const child = fork(fileURLToPath(import.meta.url), [JSON.stringify(order)], { execArgv: ['--import', 'tsx'] })
    child.once('message', (report) => resolve(report as WalkReport))
    child.once('error', reject)
    child.once('exit', (exit) => reject(new Error(`the walk ended with ${exit} and no report`)))
  })
}

async function work({ from, to, plant, first }: WalkOrder): Promise<WalkReport> {
  const sum = { acked: 0, unknown: 0, refused: 0, reads: 0, voids: 0, doubles: 0, discarded: 0, flips: 0, crashes: 0 }
  Error.stackTraceLimit = 2 // refusals are many, and a seed says more than a stack
  const failing: string[] = []
  let seed = from
  for (; seed <= to && !(first && failing.length > 0); seed++) {
    const { bad, ...counts } = await walk(seed, plant === null ? {} : PLANTS[plant].plant)
    for (const name of Object.keys(sum) as (keyof typeof sum)[]) sum[name] += counts[name]
    if (bad.length > 0) failing.push(`seed ${seed}: ${bad.slice(0, 3).join(' | ')}`)
  }
  return { failing, walked: seed - from, sum }
}

const send = process.send?.bind(process)
if (send !== undefined && process.argv[1] === fileURLToPath(import.meta.url)) {
  void work(JSON.parse(process.argv[2]!) as WalkOrder).then((report) => send(report, () => process.disconnect()))
}
