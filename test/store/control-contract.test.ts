import { controlContract } from '../contract/control-contract.ts'
import { controlWorld } from './fixture.ts'

controlContract('PostgreSQL', async () => {
  const world = await controlWorld()
  const leader = await world.leader()
  return {
    slots: [5, 7, 4095],
    leader,
    gateway: () => world.gateway(),
    overtaken: async () => void (await world.admin.query('update switchback.leader set token = token + 1')), // as a successor does
    passed: async (ms) => void (await world.admin.query('select pg_sleep($1)', [ms / 1_000])),
    [Symbol.asyncDispose]: () => world[Symbol.asyncDispose](),
  }
})
