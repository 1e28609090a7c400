// Promises: what all sessions of one gateway share.
import type { Clock } from '../lib/clock.ts'
import type { Random } from '../lib/prng.ts'
import type { TargetExecutor } from '../model/executor.ts'
import type { Mapping } from '../model/mapping.ts'
import type { GatewayLimits } from '../model/migration.ts'
import type { StatementPlanner } from '../model/plan.ts'
import type { Descriptions } from './descriptions.ts'
import type { FenceGate } from './fence-gate.ts'
import type { Permissions } from './permissions.ts'
import type { Zones } from './zones.ts'

export interface GatewayLog {
  info(details: object, message: string): void
  warn(details: object, message: string): void
  error(details: object, message: string): void
}

/** Counted, never sampled (INV-11); each is optional. */
export interface GatewayMetrics {
  /** A statement has been answered: where, and how long it took from its last byte. */
  statement?(arm: 'source' | 'target', ms: number, sqlstate: string | null): void
  parked?(ms: number): void
  refused?(sqlstate: string): void
  sessions?(open: number): void
}

export interface GatewayContext {
  readonly mapping: Mapping
  readonly gate: FenceGate
  readonly planner: StatementPlanner
  readonly executor: TargetExecutor
  readonly limits: GatewayLimits
  readonly clock: Clock
  readonly random: Random
  readonly uuid: () => string
  readonly log: GatewayLog
  readonly metrics: GatewayMetrics
  readonly descriptions: Descriptions
  readonly permissions: Permissions
  readonly zones: Zones
  readonly upstream: { readonly host: string; readonly port: number }
}
