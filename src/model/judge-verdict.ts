// Promises: what a verdict says: what to do, who found it, and the numbers that it can be argued with. Plain JSON.

/** rollback: turn the traffic back. block: go no further. warn: tell. */
export type Act = 'rollback' | 'warn' | 'block'

export type DetectorName = 'tail' | 'errors' | 'error-limit' | 'slo-limit' | 'wrong-write' | 'silence' | 'saturation'

export interface JudgeVerdict {
  readonly tMs: number
  readonly act: Act
  readonly detector: DetectorName
  /** The hot key, of saturation. */
  readonly key?: string
  readonly evidence: VerdictEvidence
}

export interface VerdictEvidence {
  readonly statement: string | null
  /** What was reached, and what had to be. */
  readonly level: number
  readonly threshold: number
  /** At least so many steps of this detector (blocks, spans) pass between two false alarms on average; null where none is known. */
  readonly stepsPerFalseAlarm: number | null
  readonly window: { readonly fromMs: number; readonly toMs: number }
  readonly arms: { readonly canary: ArmSummary; readonly control: ArmSummary } | null
  /** What the detector looked at, by name. */
  readonly numbers: Readonly<Record<string, number>>
  readonly quantileTest: QuantileEvidence | null
}

export interface ArmSummary {
  readonly requests: number
  readonly p50Ms: number | null
  readonly p99Ms: number | null
}

export interface QuantileEvidence {
  /** E in nats: the chance of as much or more, ever in this window, is at most e^-E while the P99 is within the margin. */
  readonly nats: number
  readonly margin: number
  readonly windowMs: number
}
