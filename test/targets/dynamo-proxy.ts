// Promises: a line to DynamoDB's API that fails as a script says, request by request, decided by what the request does. Replies that
// are lost end in a closed connection, so that no test waits for a timeout.
import { createServer, request as httpRequest, type IncomingMessage, type ServerResponse } from 'node:http'
import { systemClock } from '../../src/lib/clock.ts'
import type { Fault, FaultHook, TargetOperation } from '../../src/targets/memory/faults.ts'

export interface ApiRequest {
  readonly operation: string
  readonly body: { readonly TableName?: string; readonly Item?: { readonly bucket?: { readonly S: string } } } & Record<string, unknown>
}
export interface ApiReply {
  readonly status: number
  readonly body: string
}

export interface DynamoProxy extends AsyncDisposable {
  readonly endpoint: string
  /** Set by a test: answers in DynamoDB's place, or, called with the reply, changes it. */
  answer: ((request: ApiRequest, forward: () => Promise<ApiReply>) => Promise<ApiReply> | undefined) | null
  /** Requests so far, by DynamoDB's operation. */
  readonly counts: Map<string, number>
}

export async function dynamoProxy(upstream: string, hook: FaultHook): Promise<DynamoProxy> {
  const counts = new Map<string, number>()
  const server = createServer((request, response) => {
    void bodyOf(request)
      .then((text) => {
        const operation = String(request.headers['x-amz-target']).split('.')[1] ?? ''
        const parsed: ApiRequest = { operation, body: JSON.parse(text) as ApiRequest['body'] }
        counts.set(operation, (counts.get(operation) ?? 0) + 1)
        const forward = () => forwarded(upstream, request, text)
        const answered = proxy.answer?.(parsed, forward)
        const target = targetOperation(parsed)
        return serve(response, target === undefined ? undefined : hook(target), () => answered ?? forward())
      })
      .catch(() => response.socket?.destroy()) // the upstream is gone, and so is its line
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as { port: number }
  const proxy: DynamoProxy = {
    endpoint: `http://127.0.0.1:${port}`,
    answer: null,
    counts,
    async [Symbol.asyncDispose]() {
      const closed = new Promise((resolve) => server.close(resolve))
      server.closeAllConnections()
      await closed
    },
  }
  return proxy
}

export function refusal(type: string, status = 400): ApiReply {
  return { status, body: JSON.stringify({ __type: `com.amazonaws.dynamodb.v20120810#${type}`, message: 'scripted' }) }
}

function targetOperation({ operation, body }: ApiRequest): TargetOperation | undefined {
  if (operation !== 'PutItem' && operation !== 'UpdateItem') return undefined
  if (body.TableName?.endsWith('_heads')) return 'compareAndSetHead'
  if (!body.TableName?.endsWith('_outbox')) return 'putRows'
  return body.Item?.bucket?.S === 'control' ? 'writeControl' : 'appendEntry'
}

async function serve(response: ServerResponse, fault: Fault | undefined, forward: () => Promise<ApiReply>): Promise<void> {
  const reply = ({ status, body }: ApiReply) => {
    response.writeHead(status, { 'content-type': 'application/x-amz-json-1.0' })
    response.end(body)
  }
  switch (fault?.kind) {
    case undefined:
      return reply(await forward())
    case 'delay':
      await systemClock.sleep(fault.delayMs)
      return reply(await forward())
    case 'drop-reply':
      await forward()
      response.socket?.destroy()
      return
    case 'hold':
      response.socket?.destroy()
      void fault.until.then(forward).then(fault.done, fault.done)
      return
    case 'duplicate':
      reply(await forward())
      void fault.until.then(forward).then(fault.done, fault.done)
      return
    case 'refuse':
      return reply(refusal('ThrottlingException'))
  }
}

function forwarded(upstream: string, request: IncomingMessage, body: string): Promise<ApiReply> {
  return new Promise((resolve, reject) => {
    const headers = { ...request.headers, connection: 'close' }
    const onward = httpRequest(upstream, { method: 'POST', headers }, (reply) => {
      void bodyOf(reply).then((text) => resolve({ status: reply.statusCode ?? 0, body: text }), reject)
    })
    onward.on('error', reject)
    onward.end(body)
  })
}

async function bodyOf(stream: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = []
  for await (const chunk of stream) chunks.push(chunk as Buffer)
  return Buffer.concat(chunks).toString('utf8')
}
