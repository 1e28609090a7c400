import { controlContract } from '../contract/control-contract.ts'
import { gatewayControl, leaderControl } from './control.ts'
import { Kernel } from './kernel.ts'
import { Postgres } from './postgres.ts'
import { Pump } from './pumped.ts'

const TOKEN = 1

controlContract('the model of PostgreSQL', async () => {
  const kernel = new Kernel(1, { traced: false })
  kernel.heal()
  const slots = [5, 7, 4095] as const
  const postgres = new Postgres(kernel, slots)
  postgres.token = TOKEN
  const pump = new Pump(kernel.time)
  return {
    slots,
    leader: pump.pumped(leaderControl({ kernel, postgres, standby: null }, kernel.host('controller'), TOKEN)),
    gateway: () => pump.pumped(gatewayControl(kernel, postgres, kernel.host('gateway'))),
    overtaken: async () => void postgres.token++,
    passed: (ms) => pump.passed(ms),
    [Symbol.asyncDispose]: async () => undefined,
  }
})
