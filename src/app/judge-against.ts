// Promises: what the judge has against a canary, so that nobody closes the way back on it: a verdict that stands, evidence on its way to
// one, a key that saturates, or nothing known (INV-10). That the canary is not proven yet is no word against it. Pure.
import type { Judgement } from '../canary/judge.ts'
import { CHANCE_LEVEL } from '../canary/onset.ts'
import type { JudgeVerdict } from '../canary/verdict.ts'

/** Seconds in which nobody uses a service are usual. */
const SILENT_MAX_MS = 5_000

/** A sentence each. `judged`: the last span's; null: none was judged yet. */
export function againstCanary(
  judged: Judgement | null,
  { enabled, rolledBack }: { readonly enabled: boolean; readonly rolledBack: JudgeVerdict | null },
): readonly string[] {
  if (rolledBack !== null)
    return [
      `The judge turned the traffic back at ${new Date(rolledBack.tMs).toISOString()} (${rolledBack.detector}): see \`judge report\`.`,
    ]
  if (!enabled) return []
  if (judged === null) return ['The judge has not judged anything yet.']
  const { state, levels, holds } = judged
  const rising = levels.filter(({ level }) => !(level < CHANCE_LEVEL))
  return [
    ...rising.map(({ detector, statement }) => `The judge sees more than chance in ${detector} of ${statement}.`),
    ...state.saturated.filter((name) => name.startsWith(BLOCKS)).map((name) => `Key ${name.slice(BLOCKS.length)} saturates on the target.`),
    ...(state.silentMs > SILENT_MAX_MS ? [`The judge knows nothing of the canary: ${holds.join('; ')}.`] : []),
  ]
}

const BLOCKS = 'block '
