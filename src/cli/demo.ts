// Promises: `switchback demo`: the whole move there and back on this machine, told in plain sentences.

import type { Command } from 'commander'
import { command, handled } from './command.ts'
import { decimalNumber, wholeNumber } from './numbers.ts'

interface DemoFlags {
  readonly rate: number
  readonly zipf: number
  readonly accounts: number
  readonly kill: number
  readonly seed?: number
}

export function demoCommand(): Command {
  const cmd = command('demo', 'show the whole move there and back on an embedded PostgreSQL and an embedded store, under load')
    .option('--rate <n>', 'operations a second, open loop', wholeNumber(1, 5_000), 120)
    .option('--zipf <s>', 'skew of the key choice', decimalNumber(0, 3), 0.9)
    .option('--accounts <n>', 'accounts of the ledger', wholeNumber(10, 1_000_000), 2_000)
    .option('--kill <n>', 'kill -9 so many times a randomly chosen controller or gateway', wholeNumber(0, 20), 0)
    .option('--seed <n>', 'of every random choice; printed at the start', wholeNumber(0, 2 ** 31))
  return handled(cmd, async ({ out, signal }, flags: DemoFlags) => {
    const { runDemo } = await import('../../examples/ledger/demo.ts')
    const { DemoFailed } = await import('../../examples/ledger/stage.ts')
    const { tellReport } = await import('../../examples/ledger/tell.ts')
    const seed = flags.seed ?? Math.floor(Math.random() * 2 ** 31)
    out.line(`Switchback's main job on this machine. Seed ${seed}. Ctrl-C ends it and cleans up.`)
    try {
      const report = await runDemo({
        ratePerSecond: flags.rate,
        zipf: flags.zipf,
        accounts: flags.accounts,
        kills: flags.kill,
        seed,
        say: (text) => out.line(text),
        progress: (line) => out.progress(`  ${line}`),
        signal,
      })
      for (const line of tellReport(report)) out.line(line)
      out.result({ ...report, seed })
      return report.ok ? 0 : 1
    } catch (error) {
      if (!(error instanceof DemoFailed)) throw error
      out.line(signal.aborted ? 'Stopped; everything that was started has ended.' : error.message)
      out.result({ ok: false, failures: [error.message], seed })
      return signal.aborted ? 3 : 1
    }
  })
}
