// Promises: what all sessions of one gateway share.
import type { Clock } from '../lib/clock.ts'
import type { Random } from '../lib/prng.ts'
import type { TargetExecutor } from '../model/executor.ts'
import type { Owner, SlotId } from '../model/ids.ts'
import type { AggregateKey } from '../model/key.ts'
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

export interface Answered {
  /** The store that served it; of one that was refused before it came to one, the owner of its key. */
  readonly arm: Owner
  /** The same for each execution, whatever its values: `labelOf`, or 'commit'. */
  readonly label: string
  readonly key: AggregateKey
  readonly slot: SlotId
  /** Since the last byte of its batch came in. */
  readonly ms: number
  /** A fault of the system, not the application's own error. */
  readonly failed: boolean
  /** It was a write that took effect at once, or the COMMIT of a transaction that wrote: what stands in line for its key. */
  readonly commits: boolean
}

/** Counted, never sampled (INV-11); each is optional. */
export interface GatewayMetrics {
  /** A keyed statement of active mode has been answered. */
  statement?(answered: Answered): void
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
