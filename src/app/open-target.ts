// Promises: the target that the configuration names, opened and seen to answer; else one error that says what is wrong with the
// address, the credentials or the network (TARGET_UNREACHABLE, or SECRET_MISSING where a variable is not set).
import type { Clock } from '../lib/clock.ts'
import { inTime } from '../lib/in-time.ts'
import type { Random } from '../lib/prng.ts'
import { SwitchbackError } from '../model/errors.ts'
import type { Mapping } from '../model/mapping.ts'
import type { TargetConfig } from '../model/migration.ts'
import type { Target } from '../model/target.ts'
import { openDynamoTarget } from '../targets/dynamodb/dynamodb-target.ts'
import type { Credentials } from '../targets/dynamodb/signature.ts'
import { connectMemoryTarget } from '../targets/memory/client.ts'
import { isSilence } from './target-answers.ts'

export interface OpenTargetOptions {
  readonly config: TargetConfig
  readonly mapping: Mapping
  readonly env: NodeJS.ProcessEnv
  readonly clock: Clock
  readonly random: Random
  readonly requestTimeoutMs?: number
  /** One that has not answered by then, or cannot be reached, is opened all the same. Absent: it is refused. */
  readonly silentAfterMs?: number
}

const DEFAULT_KEY_ENV = 'AWS_ACCESS_KEY_ID'
const DEFAULT_SECRET_ENV = 'AWS_SECRET_ACCESS_KEY'
const SESSION_TOKEN_ENV = 'AWS_SESSION_TOKEN'

export async function openTarget(options: OpenTargetOptions): Promise<Target> {
  const { target, endpoint } = connect(options)
  try {
    await answered(target, options)
  } catch (error) {
    await target.close()
    const reason = error instanceof SwitchbackError ? String(error.details['reason'] ?? error.message) : String(error)
    throw new SwitchbackError('TARGET_UNREACHABLE', { endpoint, reason }, error)
  }
  return target
}

async function answered(target: Target, { silentAfterMs, clock }: OpenTargetOptions): Promise<void> {
  const answer = target.readControl()
  if (silentAfterMs === undefined) return void (await answer)
  await inTime(
    clock,
    silentAfterMs,
    answer.catch((error: unknown) => {
      if (!isSilence(error)) throw error
    }),
  )
}

function connect({ config, mapping, env, clock, random, requestTimeoutMs }: OpenTargetOptions): { target: Target; endpoint: string } {
  const common = { clock, random, ...(requestTimeoutMs === undefined ? {} : { requestTimeoutMs }) }
  if (config.kind === 'memory') {
    const host = config.host ?? '127.0.0.1'
    return { target: connectMemoryTarget({ host, port: config.port, ...common }), endpoint: `${host}:${config.port}` }
  }
  const endpoint = config.endpoint ?? regionalEndpoint(config.region)
  if (!URL.canParse(endpoint)) throw invalid(`target.endpoint "${endpoint}" is not a URL`)
  const credentials = credentialsOf(config, env)
  const tablePrefix = config.tablePrefix ?? ''
  return { target: openDynamoTarget({ mapping, endpoint, region: config.region, credentials, tablePrefix, ...common }), endpoint }
}

function credentialsOf(config: Extract<TargetConfig, { kind: 'dynamodb' }>, env: NodeJS.ProcessEnv): Credentials {
  const keyEnv = config.accessKeyIdEnv ?? DEFAULT_KEY_ENV
  const secretEnv = config.secretAccessKeyEnv ?? DEFAULT_SECRET_ENV
  const accessKeyId = env[keyEnv]
  const secretAccessKey = env[secretEnv]
  if (!accessKeyId) throw new SwitchbackError('SECRET_MISSING', { variable: keyEnv })
  if (!secretAccessKey) throw new SwitchbackError('SECRET_MISSING', { variable: secretEnv })
  // A session token belongs to the default pair only: another pair is another identity.
  const sessionToken = keyEnv === DEFAULT_KEY_ENV ? env[SESSION_TOKEN_ENV] : undefined
  return { accessKeyId, secretAccessKey, ...(sessionToken ? { sessionToken } : {}) }
}

function regionalEndpoint(region: string): string {
  return `https://dynamodb.${region}.amazonaws.com${region.startsWith('cn-') ? '.cn' : ''}`
}

function invalid(problem: string): SwitchbackError {
  return new SwitchbackError('CONFIG_INVALID', { file: 'target', problem })
}
