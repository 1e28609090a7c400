// Promises: the load in a process of its own, as a service would be. One JSON argument (LoadOptions); a sample or the counts a line
// on standard output; ends its arrivals and reports the counts when its standard input ends.
import { type LoadOptions, startLoad } from './load.ts'

const options = JSON.parse(process.argv[2]!) as LoadOptions
const print = (value: unknown) => process.stdout.write(`${JSON.stringify(value)}\n`)
const load = startLoad(options, (sample) =>
  print({
    ...sample,
    intendedMs: Math.round((performance.timeOrigin + sample.intendedMs) * 1000) / 1000,
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
