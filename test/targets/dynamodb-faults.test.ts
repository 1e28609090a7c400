import assert from 'node:assert/strict'
import { once } from 'node:events'
import { createServer } from 'node:net'
import { test } from 'node:test'
import { AwsV4Signer } from 'aws4fetch'
import { freePort } from '../../src/app/embedded/free-port.ts'
import { systemClock } from '../../src/lib/clock.ts'
import { seededRandom } from '../../src/lib/prng.ts'
import type { Mapping } from '../../src/model/mapping.ts'
import type { Target } from '../../src/model/target.ts'
import { type DynamoTargetOptions, openDynamoTarget } from '../../src/targets/dynamodb/dynamodb-target.ts'
import { signerFor } from '../../src/targets/dynamodb/signature.ts'
import { TRIES_MAX } from '../../src/targets/dynamodb/tries.ts'
import { FaultScript } from '../../src/targets/memory/faults.ts'
import { contractMapping, entryOf, headAt, numbered } from '../contract/contract-mapping.ts'
import { type DynamoProxy, dynamoProxy, refusal } from './dynamo-proxy.ts'
import { sharedDynalite } from './shared-dynalite.ts'

let opened = 0
const CREDENTIALS = { accessKeyId: 'AKID', secretAccessKey: 'secret' }
/** Backoff takes no time, so that what is tried many times is tried at once. */
const hastyClock = { ...systemClock, sleep: () => systemClock.sleep(0) }

async function subject(): Promise<AsyncDisposable & { target: Target; proxy: DynamoProxy; mapping: Mapping }> {
  const mapping = contractMapping(`faults_${process.pid}_${++opened}`)
  const proxy = await dynamoProxy((await sharedDynalite()).endpoint, new FaultScript().hook)
  const target = open(mapping, proxy.endpoint, { tablePrefix: `${mapping.migration}.`, clock: hastyClock })
  await target.prepare(mapping)
  return {
    target,
    proxy,
    mapping,
    async [Symbol.asyncDispose]() {
      await target.close()
      await proxy[Symbol.asyncDispose]()
    },
  }
}

function open(mapping: Mapping, endpoint: string, more: Partial<DynamoTargetOptions> = {}): Target {
  return openDynamoTarget({ mapping, endpoint, region: 'eu-central-1', credentials: CREDENTIALS, ...more })
}

test('the signature is the one that another implementation makes, with and without a session token', async () => {
  for (const sessionToken of [undefined, 'token/+=']) {
    const credentials = sessionToken === undefined ? CREDENTIALS : { ...CREDENTIALS, sessionToken }
    const body = JSON.stringify({ TableName: 'é' })
    const headers = signerFor({ credentials, region: 'eu-central-1', host: 'dynamodb.eu-central-1.amazonaws.com' })({
      operation: 'GetItem',
      body,
      nowMs: Date.UTC(2026, 0, 2, 3, 4, 5, 678),
    })
    const oracle = new AwsV4Signer({
      url: 'https://dynamodb.eu-central-1.amazonaws.com/',
      method: 'POST',
      headers: { 'X-Amz-Target': 'DynamoDB_20120810.GetItem', 'Content-Type': 'application/x-amz-json-1.0' },
      body,
      region: 'eu-central-1',
      service: 'dynamodb',
      datetime: '20260102T030405Z',
      ...credentials,
    })
    const signed = await oracle.sign()
    assert.equal(headers['authorization'], signed.headers.get('authorization'))
    assert.equal(headers['x-amz-security-token'], sessionToken)
  }
})

test('throttling of everything ends in TARGET_THROTTLED after a named number of tries, and nothing is there', async () => {
  await using world = await subject()
  const { target, proxy } = world
  proxy.answer = () => Promise.resolve(refusal('ProvisionedThroughputExceededException'))
  proxy.counts.clear()
  await assert.rejects(target.putRows([numbered('1', 1, 1, ['a', null])]), { code: 'TARGET_THROTTLED' })
  assert.equal(proxy.counts.get('PutItem'), TRIES_MAX)
  await assert.rejects(target.compareAndSetHead('1', null, headAt(1, 1, 'a')), { code: 'TARGET_THROTTLED' })
  assert.equal(proxy.counts.get('PutItem'), TRIES_MAX + 1, 'a compare-and-set is sent once')
  proxy.answer = null
  assert.deepEqual(await target.readRows([numbered('1', 1, 0, null)]), [undefined])
  assert.equal(await target.readHead('1'), null)
})

test('a fifth of all requests throttled loses no row', async () => {
  await using world = await subject()
  const { target, proxy } = world
  const seed = Number(process.env['SEED'] ?? Date.now() % 1_000_000)
  const random = seededRandom(seed)
  proxy.answer = () => (random.int(5) === 0 ? Promise.resolve(refusal('ThrottlingException')) : undefined)
  const rows = Array.from({ length: 200 }, (_, i) => numbered(String(i % 20), i, 1, [`b${i}`, null]))
  await target.putRows(rows)
  assert.deepEqual(await target.readRows(rows), rows, `seed ${seed}`)
})

test('a batch of which a part is throttled for good is unknown, and sending all of it again completes it', async () => {
  await using world = await subject()
  const { target, proxy } = world
  const rows = Array.from({ length: 20 }, (_, i) => numbered('1', i, 1, [`b${i}`, null]))
  proxy.answer = ({ body }) =>
    (body.Item as { n?: { N: string } })?.n?.N === '13' ? Promise.resolve(refusal('ThrottlingException')) : undefined
  await assert.rejects(target.putRows(rows), { code: 'TARGET_UNKNOWN' })
  proxy.answer = null
  const there = (await target.readRows(rows)).flatMap((row) => (row === undefined ? [] : [row]))
  assert.deepEqual(
    there,
    rows.filter((row) => row.clustering[0] !== '13'),
  )
  await target.putRows(rows)
  assert.deepEqual(await target.readRows(rows), rows)
})

test('what the store left unprocessed, of reads and of deletes, is sent again', async () => {
  await using world = await subject()
  const { target, proxy } = world
  const rows = Array.from({ length: 40 }, (_, i) => numbered('1', i, 1, [`b${i}`, null]))
  const id = { group: 1, lease: 'l' }
  await target.putRows(rows)
  for (let sequence = 1; sequence <= 40; sequence++) await target.appendEntry(id, sequence, entryOf('1', sequence))
  let first = true
  proxy.answer = ({ operation, body }, forward) => {
    if (!first || !operation.startsWith('Batch')) return undefined
    first = false
    const left = operation === 'BatchGetItem' ? 'UnprocessedKeys' : 'UnprocessedItems'
    if (operation === 'BatchGetItem')
      return Promise.resolve({ status: 200, body: JSON.stringify({ Responses: {}, [left]: body['RequestItems'] }) })
    void forward
    return Promise.resolve({ status: 200, body: JSON.stringify({ [left]: body['RequestItems'] }) })
  }
  assert.deepEqual(await target.readRows(rows), rows)
  first = true
  await target.deleteBucket(id, 0)
  assert.deepEqual(await target.readOutbox(id, 0, 100), { entries: [], end: true })
})

test('each answer has its honest outcome: refused, for now or for good, or unknown', async () => {
  await using world = await subject()
  const { target, proxy } = world
  const outcomes: unknown[] = []
  const answers: [string, number][] = [
    ['ValidationException', 400],
    ['AccessDeniedException', 400],
    ['ResourceNotFoundException', 400],
    ['UnrecognizedClientException', 400],
    ['ItemCollectionSizeLimitExceededException', 400],
    ['RequestLimitExceeded', 400],
    ['InternalServerError', 500],
    ['ServiceUnavailable', 503],
    ['ThrottlingException', 503],
    ['SomethingNew', 500],
  ]
  for (const [type, status] of answers) {
    proxy.answer = () => Promise.resolve(refusal(type, status))
    outcomes.push(await target.compareAndSetHead('1', null, headAt(1, 1, 'a')).catch((error: { code: string }) => error.code))
  }
  for (const reply of [
    { status: 200, body: '<html>' },
    { status: 502, body: '<html>' },
    { status: 403, body: '' },
  ]) {
    proxy.answer = () => Promise.resolve(reply)
    outcomes.push(await target.compareAndSetHead('1', null, headAt(1, 1, 'a')).catch((error: { code: string }) => error.code))
  }
  const [refused, throttled, unknown] = ['TARGET_REFUSED', 'TARGET_THROTTLED', 'TARGET_UNKNOWN']
  assert.deepEqual(outcomes, [
    ...[refused, refused, refused, refused, refused, throttled, unknown, unknown, throttled, unknown],
    ...[unknown, unknown, unknown],
  ])
})

test('a lost compare-and-set takes the head from the refusal where the store sends it along', async () => {
  await using world = await subject()
  const { target, proxy } = world
  await target.compareAndSetHead('1', null, headAt(1, 1, 'a'))
  proxy.counts.clear()
  const Item = {
    aggregate: { S: '1' },
    tenure: { N: '2' },
    version: { N: '5' },
    txnId: { S: 'z' },
    redo: { S: '[]' },
    recent: { S: '[[5,"z"]]' },
  }
  proxy.answer = ({ body }) => {
    assert.equal(body['ReturnValuesOnConditionCheckFailure'], 'ALL_OLD')
    return Promise.resolve({ status: 400, body: JSON.stringify({ __type: 'x#ConditionalCheckFailedException', Item }) })
  }
  assert.deepEqual(await target.compareAndSetHead('1', null, headAt(1, 1, 'b')), { won: false, head: headAt(2, 5, 'z') })
  assert.deepEqual([...proxy.counts], [['PutItem', 1]])
})

test('a port that refuses is known not to have taken effect; a black hole is unknown within the time that was named', async () => {
  const mapping = contractMapping('lines')
  const refusing = open(mapping, `http://127.0.0.1:${await freePort()}`)
  await assert.rejects(refusing.compareAndSetHead('1', null, headAt(1, 1, 'a')), { code: 'TARGET_THROTTLED' })
  await refusing.close()
  const hole = createServer((socket) => socket.on('error', () => undefined)).listen(0, '127.0.0.1')
  await once(hole, 'listening')
  const { port } = hole.address() as { port: number }
  const target = open(mapping, `http://127.0.0.1:${port}`, { requestTimeoutMs: 100, socketsMax: 2, waitingMax: 1 })
  const started = performance.now()
  const tries = ['1', '2', '3', '4'].map((key) =>
    target.compareAndSetHead(key, null, headAt(1, 1, 'a')).catch((error: { code: string }) => error.code),
  )
  assert.equal(await tries[3], 'TARGET_THROTTLED', 'beyond socketsMax + waitingMax')
  assert.deepEqual((await Promise.all(tries)).slice(0, 2), ['TARGET_UNKNOWN', 'TARGET_UNKNOWN'])
  assert.ok(performance.now() - started < 5_000)
  await target.close()
  hole.close()
})

test('names that cannot be are refused before a table is made', async () => {
  await using world = await subject()
  const { target, mapping } = world
  const [first, second] = mapping.tables
  const reserved = { ...first!, columns: first!.columns.map((column, i) => (i === 1 ? { ...column, name: '_sb_stamp' } : column)) }
  for (const tables of [[reserved], [{ ...first!, targetName: 'a b' }], [first!, { ...second!, targetName: first!.targetName }]])
    await assert.rejects(target.prepare({ ...mapping, tables }), { code: 'TARGET_REFUSED' })
  await target.putRows([numbered('1', 1, 1, ['still', null])])
})
