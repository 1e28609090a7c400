import { openDynamoTarget } from '../../src/targets/dynamodb/dynamodb-target.ts'
import { FaultScript } from '../../src/targets/memory/faults.ts'
import { targetContract } from '../contract/target-contract.ts'
import { dynamoProxy } from './dynamo-proxy.ts'
import { sharedDynalite } from './shared-dynalite.ts'

targetContract('DynamoDB', async (mapping) => {
  const dynalite = await sharedDynalite()
  const faults = new FaultScript()
  const proxy = await dynamoProxy(dynalite.endpoint, faults.hook)
  const target = openDynamoTarget({
    mapping,
    endpoint: proxy.endpoint,
    region: 'eu-central-1',
    credentials: { accessKeyId: 'test', secretAccessKey: 'test' },
    tablePrefix: `${mapping.migration}.`,
    requestTimeoutMs: 10_000,
  })
  return {
    target,
    faults,
    async [Symbol.asyncDispose]() {
      await target.close()
      await proxy[Symbol.asyncDispose]()
    },
  }
})
