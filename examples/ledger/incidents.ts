// Promises: the incidents that the demo can make, by name: what goes wrong, under what load, and who may be the one to see it. Pure.
import type { DetectorName } from '../../src/canary/verdict.ts'
import type { JudgeOptions } from '../../src/model/migration.ts'

/** One thing that goes wrong. */
export type Fault = 'hot keys' | 'refused requests' | 'slow answers' | 'no answers' | 'no reports' | 'no traffic'

export interface Incident {
  /** One after the other, each until the judge has turned the traffic back. */
  readonly faults: readonly Fault[]
  readonly ratePerSecond: number
  readonly connectionsPerGateway: number
  readonly canary: string
  /** Of the configuration; all else of the judge is as by default. */
  readonly judge: JudgeOptions
}

const USUAL = { ratePerSecond: 120, connectionsPerGateway: 24, canary: '25%', judge: {} }
/** Latency within which the store must answer: only where that is what goes wrong, since a machine that is busy with other work is slow, too. */
const WITH_BOUND = { ...USUAL, judge: { sloMs: 150 } }

export const INCIDENTS = {
  'hot-key': { ...WITH_BOUND, faults: ['hot keys'], ratePerSecond: 200, connectionsPerGateway: 60 },
  errors: { ...USUAL, faults: ['refused requests'] },
  'slow-target': { ...WITH_BOUND, faults: ['slow answers'] },
  'dead-target': { ...USUAL, faults: ['no answers'] },
  silence: { ...USUAL, faults: ['no reports', 'no traffic'], judge: { silenceMs: 10_000 } },
} as const satisfies Readonly<Record<string, Incident>>

export type IncidentName = keyof typeof INCIDENTS
export const INCIDENT_NAMES = Object.keys(INCIDENTS) as IncidentName[]

const IN_TRAFFIC: readonly string[] = ['tail', 'slo-limit', 'errors', 'error-limit'] satisfies DetectorName[]
const IN_SILENCE: readonly string[] = ['silence'] satisfies DetectorName[]

/** Detectors that can have seen it: a verdict of any other has another cause. */
export const SEEN_BY: Readonly<Record<Fault, readonly string[]>> = {
  'hot keys': IN_TRAFFIC,
  'refused requests': IN_TRAFFIC,
  'slow answers': IN_TRAFFIC,
  // Where nothing is answered, nothing is measured until the first deadline.
  'no answers': [...IN_TRAFFIC, ...IN_SILENCE],
  'no reports': IN_SILENCE,
  'no traffic': IN_SILENCE,
}

/** What is said when it begins. */
export const TOLD: Readonly<Record<Fault, string>> = {
  'hot keys': 'Three times the load, and most of all operations now go to one key of the canary: its commits stand in line on the store.',
  'refused requests': 'The store now refuses one request in five (AccessDeniedException), as if somebody had changed a policy.',
  'slow answers': 'Every message from and to the store now takes 80 ms longer.',
  'no answers': 'The store stops answering, for good: connections stay open, nothing comes back.',
  'no reports': 'The gateways serve as before, but none of their reports reaches the controller any more.',
  'no traffic': 'Nobody asks for the keys of the canary any more.',
}
