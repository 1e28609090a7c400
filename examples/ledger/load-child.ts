// Promises: the load in a process of its own, as a service would be. One JSON argument (LoadOptions); a sample or the counts a line
// on standard output; a line of standard input steers it (Steering); ends its arrivals and reports the counts when that ends.
import { createInterface } from 'node:readline'
import { type LoadOptions, startLoad } from './load.ts'
import type { Steering } from './steering.ts'

const options = JSON.parse(process.argv[2]!) as LoadOptions
const print = (value: unknown) => process.stdout.write(`${JSON.stringify(value)}\n`)
const wallMs = (ms: number) => Math.round((performance.timeOrigin + ms) * 1000) / 1000
const load = startLoad(options, (sample) =>
  print({
    ...sample,
    intendedMs: wallMs(sample.intendedMs),
    connectedMs: sample.connectedMs === null ? null : wallMs(sample.connectedMs),
    latencyMs: Math.round(sample.latencyMs * 1000) / 1000,
  }),
)
process.on('SIGINT', () => undefined)
const commands = createInterface({ input: process.stdin })
commands.on('line', (line) => load.steer(JSON.parse(line) as Steering))
commands.on('close', () => {
  void load.stop().then(() => {
    print({ counts: load.counts })
    process.exitCode = 0
  })
})
