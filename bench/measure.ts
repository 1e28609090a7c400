// Promises: what every bench is made of: rounds that alternate between Switchback and its peer, medians over them, figures that are
// held against their goals, and the machine they were taken on. Nothing in here makes up a number.
import { cpus, totalmem } from 'node:os'

export interface BenchOptions {
  readonly rounds: number
  /** Small sizes: shows that the bench works, not what the machine can do. */
  readonly quick: boolean
  /** Of a simulated bench; null: its own. */
  readonly seeds: { readonly from: number; readonly to: number } | null
  readonly world: string | null
  /** What is being done, for people who wait. */
  readonly say: (text: string) => void
  readonly signal: AbortSignal
}

export interface Figure {
  readonly value: number
  readonly unit: string
  readonly goal: string | null
  readonly holds: boolean | null
}

export interface Peer {
  readonly value: number
  readonly unit: string
}

export interface Measured {
  readonly figures: Readonly<Record<string, Figure>>
  readonly peers: Readonly<Record<string, Peer>>
}

export interface Machine {
  readonly cores: number
  readonly model: string
  readonly memoryGiB: number
  readonly node: string
}

export function machine(): Machine {
  const all = cpus()
  return {
    cores: all.length,
    model: all[0]?.model.trim() ?? 'unknown',
    memoryGiB: Math.round(totalmem() / 2 ** 30),
    node: process.versions.node,
  }
}

export function figure(value: number, unit: string, goal?: { readonly atMost: number } | { readonly atLeast: number }): Figure {
  const told = rounded(value)
  if (goal === undefined) return { value: told, unit, goal: null, holds: null }
  if ('atMost' in goal) return { value: told, unit, goal: `<= ${goal.atMost}`, holds: value <= goal.atMost }
  return { value: told, unit, goal: `>= ${goal.atLeast}`, holds: value >= goal.atLeast }
}

export function peer(value: number, unit: string): Peer {
  return { value: rounded(value), unit }
}

/** Runs the sides one after the other, round by round (A B A B), so that what disturbs the machine disturbs both. */
export async function interleaved<S extends string>(
  options: BenchOptions,
  sides: Readonly<Record<S, (round: number) => Promise<number>>>,
): Promise<Readonly<Record<S, readonly number[]>>> {
  const names = Object.keys(sides) as S[]
  const values = Object.fromEntries(names.map((name) => [name, [] as number[]])) as Record<S, number[]>
  for (let round = 0; round < options.rounds; round++) {
    for (const name of names) {
      options.signal.throwIfAborted()
      const value = await sides[name](round)
      values[name].push(value)
      options.say(`round ${round + 1} of ${options.rounds}: ${name} ${rounded(value)}`)
    }
  }
  return values
}

/** Median of the ratios of each round: both sides of a ratio saw the same moment of the machine. */
export function medianRatio(a: readonly number[], b: readonly number[]): number {
  return median(a.map((value, i) => value / b[i]!))
}

export function median(values: readonly number[]): number {
  return quantile(values, 0.5)
}

/** The smallest value that at least this share of all does not exceed; the mean of the two middle ones for an even median. */
export function quantile(values: readonly number[], share: number): number {
  if (values.length === 0) throw new Error('nothing was measured')
  const sorted = Float64Array.from(values).sort()
  const half = sorted.length / 2
  if (share === 0.5 && Number.isInteger(half)) return (sorted[half - 1]! + sorted[half]!) / 2
  return sorted[Math.min(sorted.length - 1, Math.max(0, Math.ceil(share * sorted.length) - 1))]!
}

/** Rows a second of `work`, which says how many rows it did. */
export async function rate(work: () => Promise<number>): Promise<number> {
  const fromMs = performance.now()
  const rows = await work()
  return (rows / (performance.now() - fromMs)) * 1_000
}

/** `work` of each item, a named number in flight. */
export async function inFlight<T>(items: readonly T[], most: number, work: (item: T) => Promise<unknown>): Promise<void> {
  let next = 0
  const lane = async () => {
    while (next < items.length) await work(items[next++]!)
  }
  await Promise.all(Array.from({ length: Math.min(most, items.length) }, lane))
}

function rounded(value: number): number {
  return Math.abs(value) >= 100 ? Math.round(value) : Number(value.toPrecision(4))
}
