// Promises: the load in a process of its own, as a service would be. One JSON argument (LoadOptions); a sample or the counts a line
// on standard output; ends its arrivals and reports the counts when its standard input ends.
import { type LoadOptions, startLoad } from './load.ts'

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
process.stdin.resume()
process.stdin.on('end', () => {
  void load.stop().then(() => {
    print({ counts: load.counts })
    process.exitCode = 0
  })
})
