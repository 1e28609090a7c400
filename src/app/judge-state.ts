// Promises: the judge's state as PostgreSQL keeps it, and back. What cannot be read is told, and the judge begins anew; that it has turned the
// traffic back it never forgets, since that stands in a row of its own.
import { FRESH_JUDGE, type JudgeState } from '../canary/judge.ts'
import type { JudgeRow, Saved } from '../store/judging.ts'

/** Another one is begun anew: raised with every change of what a state means. */
const FORMAT = 'switchback judge 1'
/** 64 statements have less than a tenth of it. */
const STATE_CHARACTERS_MAX = 32 << 20

/** Null: too long to be kept. */
export function savedState(state: JudgeState): Saved | null {
  const text = JSON.stringify(state)
  return text.length > STATE_CHARACTERS_MAX ? null : { format: FORMAT, state: text }
}

export interface Restored {
  readonly state: JudgeState
  /** For people: why it is not what was saved. */
  readonly anew: string | null
}

export function restoredState({ format, state: text, rolledBack }: JudgeRow): Restored {
  const withVerdict = (state: JudgeState) => ({ ...state, rolledBack: rolledBack?.verdict ?? null })
  if (text === null) return { state: withVerdict(FRESH_JUDGE), anew: null }
  const anew = (because: string): Restored => ({ state: withVerdict(FRESH_JUDGE), anew: because })
  if (format !== FORMAT) return anew(`it is of the form "${format}", and this Switchback writes "${FORMAT}"`)
  try {
    const state: unknown = JSON.parse(text)
    return isState(state) ? { state: withVerdict(state), anew: null } : anew('it is no state of a judge')
  } catch {
    return anew('it is no JSON')
  }
}

/** What lies deeper is tried by the judge itself, which begins anew where it fails. */
function isState(value: unknown): value is JudgeState {
  if (typeof value !== 'object' || value === null) return false
  const { statements, step, lastMs, silentMs, bakedMs, saturated } = value as Partial<JudgeState>
  return (
    typeof statements === 'object' &&
    statements !== null &&
    [step, silentMs, bakedMs].every(Number.isFinite) &&
    (lastMs === null || Number.isFinite(lastMs)) &&
    Array.isArray(saturated)
  )
}
