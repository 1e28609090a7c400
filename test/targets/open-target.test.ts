import assert from 'node:assert/strict'
import { test } from 'node:test'
import { freePort } from '../../src/app/embedded/free-port.ts'
import { openTarget } from '../../src/app/open-target.ts'
import { systemClock } from '../../src/lib/clock.ts'
import { systemRandom } from '../../src/lib/prng.ts'
import type { TargetConfig } from '../../src/model/migration.ts'
import { FaultScript } from '../../src/targets/memory/faults.ts'
import { serveMemoryTarget } from '../../src/targets/memory/server.ts'
import { contractMapping, numbered } from '../contract/contract-mapping.ts'
import { dynamoProxy, refusal } from './dynamo-proxy.ts'
import { sharedDynalite } from './shared-dynalite.ts'

const mapping = contractMapping('opened')
const env = { AWS_ACCESS_KEY_ID: 'a', AWS_SECRET_ACCESS_KEY: 'b' }

function opening(config: TargetConfig, environment: NodeJS.ProcessEnv = env, silent: { silentAfterMs?: number } = {}) {
  return openTarget({ config, mapping, env: environment, clock: systemClock, random: systemRandom, requestTimeoutMs: 500, ...silent })
}

test('either kind of target opens before its tables are made, and serves', async () => {
  await using server = await serveMemoryTarget()
  const { endpoint } = await sharedDynalite()
  const configs: TargetConfig[] = [
    { kind: 'memory', port: server.port },
    { kind: 'dynamodb', endpoint, region: 'eu-central-1', tablePrefix: 'opened.' },
  ]
  for (const config of configs) {
    const target = await openTarget({ config, mapping, env, clock: systemClock, random: systemRandom })
    assert.equal(await target.readControl(), null, 'it is nobody’s yet, which is an answer')
    await target.prepare(mapping)
    const put = numbered('1', 1, 1, ['served', null])
    await target.putRows([put])
    assert.deepEqual(await target.readRows([put]), [put])
    await target.close()
  }
})

test('an address where nothing answers is one clear error, and so are credentials that the store does not know', async () => {
  const port = await freePort()
  await assert.rejects(opening({ kind: 'memory', port }), { code: 'TARGET_UNREACHABLE', kind: 'operator', message: /ECONNREFUSED/ })
  const nowhere: TargetConfig = { kind: 'dynamodb', endpoint: `http://127.0.0.1:${port}`, region: 'eu-central-1' }
  await assert.rejects(opening(nowhere), { code: 'TARGET_UNREACHABLE', kind: 'operator', message: /ECONNREFUSED/ })
  await using proxy = await dynamoProxy((await sharedDynalite()).endpoint, new FaultScript().hook)
  proxy.answer = () => Promise.resolve(refusal('UnrecognizedClientException'))
  const refused = opening({ kind: 'dynamodb', endpoint: proxy.endpoint, region: 'eu-central-1' })
  await assert.rejects(refused, { code: 'TARGET_UNREACHABLE', message: /UnrecognizedClientException/ })
})

test('a leader that has to lead without the target opens one that refuses connections, and none that refuses its credentials (60)', async () => {
  const port = await freePort()
  const silent = { silentAfterMs: 5_000 }
  const nowhere: TargetConfig = { kind: 'dynamodb', endpoint: `http://127.0.0.1:${port}`, region: 'eu-central-1' }
  await (await opening(nowhere, env, silent)).close()
  await (await opening({ kind: 'memory', port }, env, silent)).close()
  await using proxy = await dynamoProxy((await sharedDynalite()).endpoint, new FaultScript().hook)
  proxy.answer = () => Promise.resolve(refusal('UnrecognizedClientException'))
  const refused = opening({ kind: 'dynamodb', endpoint: proxy.endpoint, region: 'eu-central-1' }, env, silent)
  await assert.rejects(refused, { code: 'TARGET_UNREACHABLE', message: /UnrecognizedClientException/ })
})

test('a credential that is not set is named, its value never', async () => {
  const config = { kind: 'dynamodb', region: 'eu-central-1', secretAccessKeyEnv: 'MY_SECRET' } as const
  await assert.rejects(opening(config, { AWS_ACCESS_KEY_ID: 'a' }), { code: 'SECRET_MISSING', message: /MY_SECRET/ })
  await assert.rejects(
    opening(config, { MY_SECRET: 'hidden' }),
    (error: Error) => /AWS_ACCESS_KEY_ID/.test(error.message) && !error.message.includes('hidden'),
  )
  await assert.rejects(opening({ kind: 'dynamodb', region: 'x', endpoint: 'not a url' }), { code: 'CONFIG_INVALID' })
})
