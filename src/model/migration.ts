// Promises: the configuration a user writes in switchback.config.ts, typed by defineMigration. Secrets are names of environment
// variables, never values.

export interface TableConfig {
  /** The column whose value is the aggregate's key. */
  readonly partitionKey: string
  /** Name on the target; the table's own name by default. */
  readonly targetName?: string
  /** Foreign keys that leave the aggregate, by name, which the user accepts as unenforced (found by an anti-join). */
  readonly acceptForeignKeys?: readonly string[]
}

export type TargetConfig =
  | {
      readonly kind: 'dynamodb'
      readonly endpoint?: string
      readonly region: string
      /** Environment variables that hold the credentials. Default AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY. */
      readonly accessKeyIdEnv?: string
      readonly secretAccessKeyEnv?: string
      readonly tablePrefix?: string
    }
  | { readonly kind: 'memory'; readonly port: number; readonly host?: string }

/** A statement that must be true on both stores, e.g. balance = sum of entries. Rows returned are violations. */
export interface BusinessInvariant {
  readonly name: string
  /** SQL over the mapped tables that returns the aggregates that violate it, key first. */
  readonly violations: string
}

export interface MigrationConfig {
  /** Names the move: lower-case letters, digits and underscores. */
  readonly migration: string
  readonly source: {
    /** Environment variable that holds the connection string of the role that runs Switchback. */
    readonly urlEnv: string
    /** Standbys that may be promoted: application_name of each (protocols.md, Durable control). */
    readonly standbys?: readonly string[]
    /** A named standby that is silent for so long is struck off: flips wait only for the others. 30 000 by default. */
    readonly standbyLostMs?: number
    /** WAL that PostgreSQL may keep for the forward sync. 8 GiB by default. */
    readonly walBudgetBytes?: number
    /** What is done past it, besides the alarm: nothing, or the replication slot goes and a second backfill is needed. */
    readonly pastWalBudget?: 'alarm' | 'drop slot'
  }
  readonly target: TargetConfig
  /** By `schema.table`. */
  readonly tables: Readonly<Record<string, TableConfig>>
  readonly gateway?: {
    readonly host?: string
    readonly port?: number
    readonly unroutableReads?: 'refuse' | 'stale-ok'
    readonly fifo?: boolean
    readonly limits?: Partial<GatewayLimits>
  }
  readonly controller?: {
    readonly host?: string
    /** Gateways tell the controller of commits here; the API answers here. */
    readonly port?: number
    /** Where gateways reach it, if not there: behind address translation, a port mapping, a service of Kubernetes. */
    readonly advertise?: { readonly host?: string; readonly port?: number }
    readonly flipDeadlineMs?: number
    readonly slotsPerFlip?: number
  }
  readonly lease?: { readonly lengthMs?: number; readonly renewMs?: number; readonly marginRatio?: number }
  /** What `canary run` does where it is given no plan. */
  readonly ramp?: {
    /** Shares of all requests, each larger than the one before, and how long each is out, at the least, before the next may come. */
    readonly steps?: readonly { readonly percent: number; readonly bakeMs: number }[]
    /** How far hot keys may bring a step's key-frequency profile from production's: 0 to 1, the share of its requests that would have to be others. 0.1 by default. */
    readonly distanceMax?: number
    /** A step has at most so many times its share of the requests: 1 to 2, 1.25 by default. */
    readonly overshootMax?: number
    /** How long the traffic is observed before the first step; the slots are chosen by it. 600 000 by default. */
    readonly observeMs?: number
  }
  readonly judge?: JudgeOptions
  readonly invariants?: readonly BusinessInvariant[]
  /** Path of the Ed25519 private key that signs certificates; made by `init` with mode 0600. */
  readonly signingKeyFile?: string
}

/** What the judge of a canary goes by (docs/operating/judge.md). */
export interface JudgeOptions {
  /** Without a judge nothing goes back by itself, and no ramp goes on. True by default. */
  readonly enabled?: boolean
  /** Latency that is no regression, however much faster PostgreSQL is. None by default. */
  readonly sloMs?: number
  /** Of the canary's requests that may fail. 0.005 by default. */
  readonly errorShare?: number
  /** So long without evidence of a canary that is out, and it goes back. 60 000 by default. */
  readonly silenceMs?: number
  /** Mean number of steps to a false alarm, of all detectors together. 1 000 000 by default. */
  readonly stepsPerFalseAlarm?: number
  /** Hot keys by name instead of pseudonyms, wherever a person or a file sees them. False by default. */
  readonly showKeys?: boolean
  /** Growth of the load that saturation is asked for; 1, the default, is today's. */
  readonly growth?: number
  /** Rollbacks whose evidence is kept. 20 by default. */
  readonly evidenceFilesMax?: number
  readonly promotion?: {
    /** A step is out for so long before the next. 600 000 by default. */
    readonly bakeMs?: number
    /** Requests of the canary in it. 10 000 by default. */
    readonly leastRequests?: number
    /** How old the last comparison of both stores may be. 600 000 by default. */
    readonly parityFreshMs?: number
    /** How old what is known of the reverse sync's lag may be. 10 000 by default. */
    readonly lagFreshMs?: number
    /** How far the reverse sync may be behind. 1 000 by default. */
    readonly lagMostMs?: number
  }
}

export interface GatewayLimits {
  readonly parkedStatementsMax: number
  readonly parkDeadlineMs: number
  readonly queueBytesMax: number
  readonly sqlBytesMax: number
  readonly messageBytesMax: number
  readonly aggregateRowsMax: number
  readonly transactionRowsMax: number
  readonly planCacheBytes: number
  readonly connectionsMax: number
  readonly loginTimeoutMs: number
  readonly commitDeadlineMs: number
}

/** Types the configuration; returns it as it is. */
export function defineMigration(config: MigrationConfig): MigrationConfig {
  return config
}
