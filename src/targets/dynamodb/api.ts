// Promises: one call of DynamoDB's JSON API is one HTTP request, sent at most once, with an honest outcome: a result, a failed
// condition, TARGET_THROTTLED or TARGET_REFUSED (known not to have taken effect), or TARGET_UNKNOWN. Sockets are kept, requests in
// flight and waiting are bounded.
import { type ClientRequest, Agent as HttpAgent, request as httpRequest, type IncomingMessage } from 'node:http'
import { Agent as HttpsAgent, request as httpsRequest } from 'node:https'
import type { Clock } from '../../lib/clock.ts'
import { Places } from '../../lib/places.ts'
import { SwitchbackError } from '../../model/errors.ts'
import { type Credentials, type Sign, signerFor } from './signature.ts'

export interface ApiOptions {
  readonly endpoint: string
  readonly region: string
  readonly credentials: Credentials
  readonly requestTimeoutMs: number
  /** Requests in flight: one socket each. */
  readonly socketsMax: number
  /** Requests waiting for a socket; more are refused for now. */
  readonly waitingMax: number
  readonly clock: Clock
}

/** An attribute value; the types in use here. */
export type Attribute =
  | { readonly S: string }
  | { readonly N: string }
  | { readonly B: string }
  | { readonly BOOL: boolean }
  | { readonly NULL: true }
export type Item = Readonly<Record<string, Attribute>>

/** The condition of a write did not hold; the item as it is, where the store sent it. */
export class ConditionFailed extends Error {
  override readonly name = 'ConditionFailed'
  readonly item: Item | undefined

  constructor(item: Item | undefined) {
    super('the condition did not hold')
    this.item = item
  }
}

/** Below the 5 s after which common servers close an idle socket: a request on a dying socket has an unknown outcome. */
const IDLE_SOCKET_MS = 4_000
const REPLY_BYTES_MAX = 32 * 1024 * 1024

const THROTTLED = new Set([
  'ProvisionedThroughputExceededException',
  'ThrottlingException',
  'Throttling',
  'RequestLimitExceeded',
  'LimitExceededException',
])
/** Said by a server that may have done it. */
const UNCERTAIN = new Set(['InternalServerError', 'InternalFailure', 'ServiceUnavailable', 'RequestTimeout', 'RequestTimeoutException'])

export class DynamoApi {
  readonly endpoint: string
  readonly #options: ApiOptions
  readonly #url: URL
  readonly #agent: HttpAgent
  readonly #sign: Sign
  readonly #send: (options: object, onReply: (reply: IncomingMessage) => void) => ClientRequest
  /** A request is made when there is a socket for it: one that waits in Node's agent is a dozen objects. */
  readonly #sockets: Places
  readonly #hostname: string

  constructor(options: ApiOptions) {
    this.endpoint = options.endpoint
    this.#options = options
    this.#url = new URL(options.endpoint)
    this.#hostname = this.#url.hostname.replace(/^\[|\]$/g, '')
    this.#sockets = new Places(options.socketsMax)
    const secure = this.#url.protocol === 'https:'
    const pool = { keepAlive: true, maxSockets: options.socketsMax, scheduling: 'lifo', timeout: IDLE_SOCKET_MS, noDelay: true } as const
    this.#agent = secure ? new HttpsAgent(pool) : new HttpAgent(pool)
    this.#send = secure ? httpsRequest : httpRequest
    this.#sign = signerFor({ credentials: options.credentials, region: options.region, host: this.#url.host })
  }

  /** Throws ConditionFailed or a SwitchbackError. */
  async call<R>(operation: string, parameters: object): Promise<R> {
    const { clock, requestTimeoutMs, waitingMax } = this.#options
    if (this.#sockets.waiting >= waitingMax)
      throw new SwitchbackError('TARGET_THROTTLED', { operation, reason: `waitingMax ${waitingMax} requests wait` })
    let leftMs = requestTimeoutMs
    const place = this.#sockets.enter()
    if (place !== null) {
      const cameMs = clock.monotonicMs()
      // Those before it end within their own time.
      await place
      leftMs -= clock.monotonicMs() - cameMs
    }
    try {
      if (leftMs <= 0) throw new SwitchbackError('TARGET_THROTTLED', { operation, reason: `no socket within ${requestTimeoutMs} ms` })
      const { status, body } = await this.#exchange(operation, JSON.stringify(parameters), leftMs)
      if (status === 200) return parsed(operation, body) as R
      throw failure(operation, status, body)
    } finally {
      this.#sockets.leave()
    }
  }

  close(): void {
    this.#agent.destroy()
  }

  #exchange(operation: string, body: string, timeoutMs: number): Promise<{ status: number; body: string }> {
    const { clock, requestTimeoutMs } = this.#options
    return new Promise((resolve, reject) => {
      const headers = this.#sign({ operation, body, nowMs: clock.nowMs() })
      const options = { hostname: this.#hostname, port: this.#url.port, method: 'POST', path: '/', agent: this.#agent, headers }
      const request = this.#send(options, (reply) => {
        const chunks: Buffer[] = []
        let bytes = 0
        reply.on('data', (chunk: Buffer) => {
          bytes += chunk.length
          if (bytes > REPLY_BYTES_MAX) request.destroy(new Error(`a reply above ${REPLY_BYTES_MAX} bytes`))
          chunks.push(chunk)
        })
        reply.on('end', () => {
          cancelTimer()
          if (!reply.complete) return fail(new Error('the reply was cut off'))
          resolve({ status: reply.statusCode ?? 0, body: Buffer.concat(chunks, bytes).toString('utf8') })
        })
        reply.on('error', fail)
      })
      const fail = (error: Error) => {
        cancelTimer()
        reject(lineFailure(operation, error))
      }
      const cancelTimer = clock.after(timeoutMs, () => request.destroy(new Error(`no reply within ${requestTimeoutMs} ms`)))
      request.on('error', fail)
      request.end(body)
    })
  }
}

/** An error before any byte was sent is known not to have taken effect. */
function lineFailure(operation: string, error: Error & { syscall?: string }): SwitchbackError {
  const unsent = error.syscall === 'connect' || error.syscall === 'getaddrinfo'
  return new SwitchbackError(unsent ? 'TARGET_THROTTLED' : 'TARGET_UNKNOWN', { operation, reason: error.message }, error)
}

function parsed(operation: string, body: string): unknown {
  try {
    return JSON.parse(body)
  } catch (error) {
    throw new SwitchbackError('TARGET_UNKNOWN', { operation, reason: 'the reply is not JSON' }, error)
  }
}

function failure(operation: string, status: number, body: string): Error {
  let reply: { __type?: unknown; message?: unknown; Message?: unknown; Item?: Item } = {}
  try {
    reply = JSON.parse(body) as typeof reply
  } catch {
    // Not DynamoDB's own words: something in between answered, and what it did before is unknown.
  }
  const type = typeof reply.__type === 'string' ? reply.__type.slice(reply.__type.lastIndexOf('#') + 1) : ''
  if (type === 'ConditionalCheckFailedException') return new ConditionFailed(reply.Item)
  const text = String(reply.message ?? reply.Message ?? '').slice(0, 500)
  const details = { operation, reason: type === '' ? `HTTP status ${status}` : `${type}: ${text}`, type }
  if (THROTTLED.has(type)) return new SwitchbackError('TARGET_THROTTLED', details)
  if (type === '' || status < 400 || status >= 500 || UNCERTAIN.has(type)) return new SwitchbackError('TARGET_UNKNOWN', details)
  return new SwitchbackError('TARGET_REFUSED', details)
}
