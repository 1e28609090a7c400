// Promises: a configuration that has been read and checked, or one clear CONFIG_INVALID that names the field. Secrets are read
// from the environment only, by the names that the configuration gives.
import { statSync } from 'node:fs'
import { dirname, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { createJiti } from 'jiti'
import { z } from 'zod'
import { OBSERVE_MS, RAMP_DEFAULTS, type RampSettings, rampProblems } from '../canary/ramp.ts'
import { SwitchbackError } from '../model/errors.ts'
import type { GatewayLimits, JudgeOptions, MigrationConfig } from '../model/migration.ts'

export const CONFIG_FILE = 'switchback.config.ts'

export interface LoadedConfig {
  readonly config: MigrationConfig
  readonly file: string
}

const port = z.number().int().min(0).max(65535)
const positive = z.number().int().positive()
const name = z.string().regex(/^[a-z][a-z0-9_]{0,39}$/, 'must be lower-case letters, digits and underscores, at most 40')
const envName = z.string().regex(/^[A-Za-z_][A-Za-z0-9_]*$/, 'must be the name of an environment variable, not its value')

const target = z.discriminatedUnion('kind', [
  z.strictObject({
    kind: z.literal('dynamodb'),
    endpoint: z.url().optional(),
    region: z.string().min(1),
    accessKeyIdEnv: envName.optional(),
    secretAccessKeyEnv: envName.optional(),
    tablePrefix: z
      .string()
      .regex(/^[A-Za-z0-9_.-]{0,40}$/)
      .optional(),
  }),
  z.strictObject({ kind: z.literal('memory'), port, host: z.string().optional() }),
])

const limits = z
  .strictObject({
    parkedStatementsMax: positive,
    parkDeadlineMs: positive,
    queueBytesMax: positive,
    sqlBytesMax: positive,
    messageBytesMax: positive,
    aggregateRowsMax: positive,
    transactionRowsMax: positive,
    planCacheBytes: positive,
    connectionsMax: positive,
    loginTimeoutMs: positive,
    commitDeadlineMs: positive,
  } satisfies Record<keyof GatewayLimits, z.ZodNumber>)
  .partial()

const ramp = z
  .strictObject({
    steps: z.array(z.strictObject({ percent: z.number(), bakeMs: z.number().int() })),
    distanceMax: z.number(),
    overshootMax: z.number(),
    observeMs: positive,
  })
  .partial()

const DAY_MS = 86_400_000
/** Below this, a gateway that restarts would be silence. */
const SILENCE_LEAST_MS = 2_000

const judge = z
  .strictObject({
    enabled: z.boolean(),
    sloMs: z.number().positive().max(DAY_MS),
    errorShare: z.number().gt(0).lt(1, 'must be a share, below 1'),
    silenceMs: z.number().int().min(SILENCE_LEAST_MS).max(DAY_MS),
    stepsPerFalseAlarm: z.number().min(100).max(1e12),
    showKeys: z.boolean(),
    growth: z.number().min(0.1).max(1_000),
    evidenceFilesMax: positive.max(1_000),
    promotion: z
      .strictObject({
        bakeMs: z
          .number()
          .int()
          .min(0)
          .max(30 * DAY_MS),
        leastRequests: positive,
        parityFreshMs: z.number().int().min(SILENCE_LEAST_MS),
        lagFreshMs: z.number().int().min(SILENCE_LEAST_MS, 'must be at least 2000: the lag is looked at once a second'),
        lagMostMs: z.number().min(0),
      } satisfies Record<keyof NonNullable<JudgeOptions['promotion']>, z.ZodNumber>)
      .partial(),
  } satisfies Record<keyof JudgeOptions, z.ZodType>)
  .partial()

const schema = z.strictObject({
  migration: name,
  source: z.strictObject({
    urlEnv: envName,
    standbys: z.array(z.string().min(1)).optional(),
    standbyLostMs: positive.optional(),
    walBudgetBytes: positive.optional(),
    pastWalBudget: z.enum(['alarm', 'drop slot']).optional(),
  }),
  target,
  tables: z
    .record(
      z.string().regex(/^[^.]+\.[^.]+$/, 'must be schema.table'),
      z.strictObject({
        partitionKey: z.string().min(1),
        targetName: z.string().min(1).optional(),
        acceptForeignKeys: z.array(z.string()).optional(),
      }),
    )
    .refine((tables) => Object.keys(tables).length > 0, 'names no table'),
  gateway: z
    .strictObject({
      host: z.string(),
      port,
      unroutableReads: z.enum(['refuse', 'stale-ok']),
      fifo: z.boolean(),
      limits,
    })
    .partial()
    .optional(),
  controller: z
    .strictObject({
      host: z.string(),
      port,
      advertise: z.strictObject({ host: z.string().min(1), port: port.min(1) }).partial(),
      flipDeadlineMs: positive,
      slotsPerFlip: positive.max(4096),
    })
    .partial()
    .optional(),
  lease: z
    .strictObject({ lengthMs: positive, renewMs: positive, marginRatio: z.number().min(0).max(1) })
    .partial()
    .optional(),
  ramp: ramp.optional(),
  judge: judge.optional(),
  invariants: z.array(z.strictObject({ name: z.string().min(1), violations: z.string().min(1) })).optional(),
  signingKeyFile: z.string().min(1).optional(),
})

export const GATEWAY_LIMITS: GatewayLimits = {
  parkedStatementsMax: 10_000,
  parkDeadlineMs: 10_000,
  queueBytesMax: 64 * 1024 * 1024,
  sqlBytesMax: 256 * 1024,
  messageBytesMax: 64 * 1024 * 1024,
  aggregateRowsMax: 10_000,
  transactionRowsMax: 500,
  planCacheBytes: 32 * 1024 * 1024,
  connectionsMax: 5_000,
  loginTimeoutMs: 10_000,
  commitDeadlineMs: 5_000,
}

/** Throws CONFIG_MISSING, CONFIG_INVALID. */
export async function loadConfig(path: string | undefined, folder = process.cwd()): Promise<LoadedConfig> {
  const file = resolve(folder, path ?? CONFIG_FILE)
  const found = statSync(file, { throwIfNoEntry: false })
  if (found === undefined) throw new SwitchbackError('CONFIG_MISSING', { file })
  if (!found.isFile()) throw new SwitchbackError('CONFIG_INVALID', { file, problem: 'it is not a file' })
  return { config: checkConfig(await read(file), file), file }
}

export function checkConfig(value: unknown, file: string): MigrationConfig {
  const parsed = schema.safeParse(value)
  if (parsed.success) {
    const lease = leaseSettings(parsed.data as MigrationConfig)
    if (lease.renewMs * 2 > lease.lengthMs) {
      throw new SwitchbackError('CONFIG_INVALID', {
        file,
        problem: `lease.renewMs (${lease.renewMs}) must be at most half of lease.lengthMs (${lease.lengthMs})`,
      })
    }
    const problems = rampProblems(rampSettings(parsed.data as MigrationConfig))
    if (problems.length > 0) throw new SwitchbackError('CONFIG_INVALID', { file, problem: `ramp: ${problems.join('; ')}` })
    return parsed.data as MigrationConfig
  }
  const problem = parsed.error.issues.map((issue) => issueText(issue, 'the default export')).join('; ')
  throw new SwitchbackError('CONFIG_INVALID', { file, problem })
}

function issueText({ path, message }: z.core.$ZodIssue, whole: string): string {
  return `${path.join('.') || whole}: ${message}`
}

export function leaseSettings(config: MigrationConfig): { lengthMs: number; renewMs: number; marginRatio: number; marginMs: number } {
  const { lengthMs = 3_000, renewMs = 1_000, marginRatio = 0.1 } = config.lease ?? {}
  return { lengthMs, renewMs, marginRatio, marginMs: Math.ceil(lengthMs * marginRatio) }
}

export function rampSettings(config: Pick<MigrationConfig, 'ramp'>): RampSettings {
  return { ...RAMP_DEFAULTS, observeMs: OBSERVE_MS, ...config.ramp }
}

/** A ramp that a person gives in place of the configuration's; what it leaves out is the configuration's. @throws RAMP_INVALID */
export function checkRamp(value: unknown, config: Pick<MigrationConfig, 'ramp'>): RampSettings {
  const parsed = ramp.safeParse(value)
  const given = parsed.success ? ({ ...rampSettings(config), ...parsed.data } as RampSettings) : null
  const problems = given === null ? parsed.error!.issues.map((issue) => issueText(issue, 'the plan')) : rampProblems(given)
  if (problems.length > 0) throw new SwitchbackError('RAMP_INVALID', { problems })
  return given!
}

/** The connection string that the configuration names, never told to anyone. Throws SECRET_MISSING, CONNECTION_STRING_INVALID. */
export function sourceUrl(config: MigrationConfig, env: NodeJS.ProcessEnv): string {
  const url = env[config.source.urlEnv]
  return checkUrl(url, config.source.urlEnv)
}

export function checkUrl(url: string | undefined, variable: string): string {
  if (url === undefined || url === '') throw new SwitchbackError('SECRET_MISSING', { variable })
  const parsed = URL.canParse(url) ? new URL(url) : null
  if (parsed === null || !/^postgres(ql)?:$/.test(parsed.protocol) || parsed.hostname === '' || parsed.pathname.length < 2)
    throw new SwitchbackError('CONNECTION_STRING_INVALID', { variable })
  return url
}

async function read(file: string): Promise<unknown> {
  const here = dirname(fileURLToPath(import.meta.url))
  const extension = import.meta.url.endsWith('.ts') ? '.ts' : '.js'
  const jiti = createJiti(import.meta.url, {
    alias: { switchback: resolve(here, `../model/migration${extension}`) },
    interopDefault: true,
    fsCache: false,
  })
  try {
    return await jiti.import(file, { default: true })
  } catch (error) {
    throw new SwitchbackError(
      'CONFIG_INVALID',
      { file, problem: error instanceof Error ? error.message.split('\n')[0]! : String(error) },
      error,
    )
  }
}
