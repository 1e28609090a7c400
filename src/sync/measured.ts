// Promises: a report of a gateway's measurements as compact JSON and back. Whatever is not one is refused whole, field by field: counts are
// whole and not negative, buckets ascend, names and lists are bounded. Pure.
import { FIRST_BUCKET, LAST_BUCKET } from '../lib/float-buckets.ts'
import {
  HOT_BY_REQUESTS_MAX,
  LABEL_CHARACTERS_MAX,
  MEASURED_KEY_CHARACTERS_MAX,
  MEASURED_KEYS_MAX,
  MEASURED_LABELS_MAX,
  type MeasuredArm,
  type MeasuredHolds,
  type MeasuredHot,
  type MeasuredKey,
  type MeasuredReport,
  type MeasuredSketch,
  type MeasuredStatement,
} from '../model/measured.ts'

/** Hash slots, and one for each pinned key. */
const SLOTS_MAX = 65_536
const CAPACITY_MAX = 65_536

/** Each bucket by its distance from the one before: mostly 1, so that it is short. */
export function toMeasuredWire({ overMs, fromMs, lostMs, statements, slots, holds, keys, hot }: MeasuredReport): unknown {
  return {
    overMs,
    fromMs,
    lostMs,
    statements: statements.map(({ label, source, target }) => [label, armWire(source), armWire(target)]),
    slots: slots.flat(),
    holds: holdsWire(holds),
    keys: keys.map(({ key, requests, commits, targetCommits, retries, holds: own }) => [
      key,
      requests,
      commits,
      targetCommits,
      retries,
      ...holdsWire(own),
    ]),
    hot,
  }
}

function armWire(arm: MeasuredArm | null): unknown {
  if (arm === null) return null
  const gaps = arm.buckets.map((bucket, i) => bucket - (i === 0 ? FIRST_BUCKET : arm.buckets[i - 1]!))
  return [arm.requests, arm.errors, gaps, arm.counts]
}

function holdsWire({ commits, sumMs, sumSquaresMs, maxMs }: MeasuredHolds): number[] {
  return [commits, sumMs, sumSquaresMs, maxMs]
}

/** Null: it is none. */
export function fromMeasuredWire(value: unknown): MeasuredReport | null {
  try {
    return report(value)
  } catch (error) {
    if (error === NO_REPORT) return null
    throw error
  }
}

const NO_REPORT = new Error('not a report')

function check(holds: boolean): asserts holds {
  if (!holds) throw NO_REPORT
}

function report(value: unknown): MeasuredReport {
  const of = record(value)
  const slots = list(of['slots'], 2 * SLOTS_MAX)
  check(slots.length % 2 === 0)
  return {
    overMs: amount(of['overMs']),
    fromMs: of['fromMs'] === null || of['fromMs'] === undefined ? null : amount(of['fromMs']),
    lostMs: amount(of['lostMs']),
    statements: unique(list(of['statements'], MEASURED_LABELS_MAX).map(statement), ({ label }) => label),
    slots: unique(
      Array.from({ length: slots.length / 2 }, (_, i) => [count(slots[2 * i]), count(slots[2 * i + 1])] as const),
      ([slot]) => slot,
    ),
    holds: holds(list(of['holds'], 4)),
    keys: unique(list(of['keys'], MEASURED_KEYS_MAX).map(measuredKey), ({ key }) => key),
    hot: of['hot'] === null ? null : arms(record(of['hot'])),
  }
}

function statement(value: unknown): MeasuredStatement {
  const [label, source, target, ...more] = list(value, 3)
  check(more.length === 0)
  return { label: text(label, LABEL_CHARACTERS_MAX), source: arm(source), target: arm(target) }
}

function arm(value: unknown): MeasuredArm | null {
  if (value === null) return null
  const [requests, errors, gaps, counts] = list(value, 4)
  const read = {
    requests: count(requests),
    errors: count(errors),
    buckets: ascending(list(gaps, LAST_BUCKET - FIRST_BUCKET + 1)),
    counts: list(counts, LAST_BUCKET - FIRST_BUCKET + 1).map(count),
  }
  check(read.errors <= read.requests && read.buckets.length === read.counts.length)
  check(read.counts.reduce((sum, one) => sum + one, 0) <= read.requests)
  return read
}

function ascending(gaps: readonly unknown[]): number[] {
  const buckets: number[] = []
  let bucket = FIRST_BUCKET
  for (const [i, value] of gaps.entries()) {
    const gap = count(value)
    bucket += gap
    check((gap > 0 || i === 0) && bucket <= LAST_BUCKET)
    buckets.push(bucket)
  }
  return buckets
}

function measuredKey(value: unknown): MeasuredKey {
  const [key, requests, commits, targetCommits, retries, ...held] = list(value, 9)
  return {
    key: text(key, MEASURED_KEY_CHARACTERS_MAX),
    requests: count(requests),
    commits: count(commits),
    targetCommits: count(targetCommits),
    retries: count(retries),
    holds: holds(held),
  }
}

function holds(value: readonly unknown[]): MeasuredHolds {
  const [commits, sumMs, sumSquaresMs, maxMs] = value
  return { commits: count(commits), sumMs: amount(sumMs), sumSquaresMs: amount(sumSquaresMs), maxMs: amount(maxMs) }
}

function arms({ source, target }: Record<string, unknown>): NonNullable<MeasuredReport['hot']> {
  return { source: hot(source), target: hot(target) }
}

function hot(value: unknown): MeasuredHot {
  const of = record(value)
  return { requests: sketch(of['requests']), casRetries: sketch(of['casRetries']), queueMs: sketch(of['queueMs']) }
}

function sketch(value: unknown): MeasuredSketch | null {
  if (value === null) return null
  const of = record(value)
  const capacity = count(of['capacity'])
  check(capacity >= 1 && capacity <= CAPACITY_MAX)
  const keys = list(of['keys'], Math.min(capacity, HOT_BY_REQUESTS_MAX)).map((one) => {
    const [key, most, error] = list(one, 3)
    return [text(key, MEASURED_KEY_CHARACTERS_MAX), amount(most), amount(error)] as const
  })
  check(keys.every(([, most, error], i) => error <= most && most <= (keys[i - 1]?.[1] ?? most)))
  return { capacity, total: amount(of['total']), absentMax: amount(of['absentMax']), refused: count(of['refused']), keys }
}

function unique<T>(of: readonly T[], name: (one: T) => unknown): readonly T[] {
  check(new Set(of.map(name)).size === of.length)
  return of
}

function record(value: unknown): Record<string, unknown> {
  check(typeof value === 'object' && value !== null && !Array.isArray(value))
  return value as Record<string, unknown>
}

function list(value: unknown, most: number): readonly unknown[] {
  check(Array.isArray(value) && value.length <= most)
  return value
}

function text(value: unknown, charactersMax: number): string {
  check(typeof value === 'string' && value.length <= charactersMax)
  return value
}

function count(value: unknown): number {
  check(Number.isSafeInteger(value) && (value as number) >= 0)
  return value as number
}

function amount(value: unknown): number {
  check(Number.isFinite(value) && (value as number) >= 0)
  return value as number
}
