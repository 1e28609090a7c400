// Promises: the plan that `canary run` is given: shares of the requests and bake times in one word, as `1%:10m,5%:10m,25%:30m,100%`, or a JSON
// file with the fields of the configuration's `ramp`; or one clear error.
import { readFileSync, statSync } from 'node:fs'
import { checkRamp } from '../app/load-config.ts'
import type { RampSettings } from '../canary/ramp.ts'
import { SwitchbackError } from '../model/errors.ts'
import type { MigrationConfig } from '../model/migration.ts'

const FILE_BYTES_MAX = 1 << 20
const UNIT_MS: Readonly<Record<string, number>> = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000 }

/** What it leaves out is the configuration's. @throws RAMP_INVALID, FILE_UNREADABLE */
export function rampPlan(text: string | undefined, config: Pick<MigrationConfig, 'ramp'>): RampSettings {
  if (text === undefined) return checkRamp({}, config)
  return checkRamp(text.includes('%') ? { steps: stepsOf(text) } : fileOf(text), config)
}

function stepsOf(text: string): { percent: number; bakeMs: number }[] {
  return text.split(',').map((one) => {
    const match = /^\s*(\d{1,3}(?:\.\d{1,4})?)\s*%(?::(\d{1,9}(?:\.\d{1,3})?)(ms|s|m|h|d))?\s*$/.exec(one)
    if (match === null)
      throw new SwitchbackError('RAMP_INVALID', {
        problems: [`"${one.trim()}" is no step; a step is a share of the requests and how long it bakes, as 5%:10m (ms, s, m, h or d)`],
      })
    const [, percent, bake = '0', unit = 'ms'] = match
    return { percent: Number(percent), bakeMs: Math.round(Number(bake) * UNIT_MS[unit]!) }
  })
}

function fileOf(file: string): unknown {
  let text: string
  try {
    const { size } = statSync(file)
    if (size > FILE_BYTES_MAX) throw new Error(`it has more than ${FILE_BYTES_MAX} bytes`)
    text = readFileSync(file, 'utf8')
  } catch (error) {
    throw new SwitchbackError('FILE_UNREADABLE', { file, reason: (error as Error).message }, error)
  }
  try {
    return JSON.parse(text) as unknown
  } catch (error) {
    throw new SwitchbackError('RAMP_INVALID', { problems: [`${file} is no JSON (${(error as Error).message})`] }, error)
  }
}
