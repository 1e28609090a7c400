// Promises: what a gateway tells the leader about once a second of the statements that it answered since it told last. Types and bounds
// alone. No report says what an earlier one has said, so that one that is lost is a gap, and never counts twice.
import type { Owner, SlotId } from './ids.ts'
import type { AggregateKey } from './key.ts'

export interface MeasuredReport {
  /** So long a time it is about, ending when it was made. */
  readonly overMs: number
  /** When that time began, since the gateway did: where it is not where the report before ended, one was lost. Null: an older gateway. */
  readonly fromMs: number | null
  /** Of so long a time before it nothing is told: the leader was away for longer than is kept. */
  readonly lostMs: number
  readonly statements: readonly MeasuredStatement[]
  /** Requests by slot, both arms; slots without any are not named. */
  readonly slots: readonly (readonly [slot: SlotId, requests: number])[]
  /** Of all commits on the target. */
  readonly holds: MeasuredHolds
  /** Of the keys that were told as hot last before the time began. */
  readonly keys: readonly MeasuredKey[]
  /** The heaviest as they stand, faded by half each minute. Null: as they were told last; they go with a report now and then. */
  readonly hot: Readonly<Record<Owner, MeasuredHot>> | null
}

export interface MeasuredStatement {
  readonly label: string
  readonly source: MeasuredArm | null
  readonly target: MeasuredArm | null
}

export interface MeasuredArm {
  readonly requests: number
  readonly errors: number
  /** Of all of them, failed ones too; ascending buckets of lib/float-buckets.ts. */
  readonly buckets: readonly number[]
  readonly counts: readonly number[]
}

/** How long commits held their key. */
export interface MeasuredHolds {
  readonly commits: number
  readonly sumMs: number
  readonly sumSquaresMs: number
  readonly maxMs: number
}

export interface MeasuredKey {
  readonly key: AggregateKey
  /** Both arms. */
  readonly requests: number
  /** Both arms. */
  readonly commits: number
  readonly targetCommits: number
  readonly retries: number
  readonly holds: MeasuredHolds
}

/** Null: nothing had any weight. */
export interface MeasuredHot {
  readonly requests: MeasuredSketch | null
  readonly casRetries: MeasuredSketch | null
  readonly queueMs: MeasuredSketch | null
}

/** A sketch of canary/hot-keys.ts. */
export interface MeasuredSketch {
  readonly capacity: number
  readonly total: number
  readonly absentMax: number
  readonly refused: number
  readonly keys: readonly (readonly [key: AggregateKey, count: number, error: number])[]
}

/** As many as the judge judges; all others are told as one. */
export const MEASURED_LABELS_MAX = 64
export const OTHER_STATEMENTS = 'all others'
export const LABEL_CHARACTERS_MAX = 160
/** Keys with longer texts count in their slot and are never named. */
export const MEASURED_KEY_CHARACTERS_MAX = 256
/** Hottest by requests of an arm, and by each other weight, that a report names. */
export const HOT_BY_REQUESTS_MAX = 100
export const HOT_BY_OTHERS_MAX = 30
export const MEASURED_KEYS_MAX = 2 * (HOT_BY_REQUESTS_MAX + 2 * HOT_BY_OTHERS_MAX)
