// Promises: a plan is used only where the statement means what it was planned for: with the parameter types that PostgreSQL gives
// it, under the settings that it was planned under, and read by the same rules of quoting (gateway.md, Plans; faults.md 39, 62).
import { SwitchbackError } from '../model/errors.ts'
import type { ColumnType } from '../model/mapping.ts'
import type { KeyedPlan, Plan, PlannedStatement } from '../model/plan.ts'
import { typeByOid } from '../wire/values.ts'

/** A parameter whose type the client leaves to PostgreSQL: none, or `unknown`. */
const LEFT_OPEN = new Set([0, 705])
/** They differ in nothing but a length, which a parameter has not. */
const SAME_TEXT: ReadonlySet<ColumnType | undefined> = new Set<ColumnType>(['text', 'varchar'])

/** The statement as it may be used with the types that its client declares in Parse. */
export function asDeclared(planned: PlannedStatement, declaredOids: readonly number[]): PlannedStatement {
  const { plan } = planned
  if (plan.kind !== 'keyed' || declaredOids.length === 0) return planned
  const other = differing(
    plan,
    declaredOids.map((oid) => (LEFT_OPEN.has(oid) ? null : oid)),
  )
  if (other === null) return planned
  return { sql: planned.sql, plan: unroutable(plan, `parameter $${other} is declared with another type than it has here`, TYPES_REMEDY) }
}

/** PostgreSQL's own word on the parameters. Throws UNROUTABLE; nothing has been run. */
export function mustBeDescribedAs(plan: KeyedPlan, oids: readonly number[]): void {
  const other = differing(plan, oids)
  if (other === null) return
  throw new SwitchbackError('UNROUTABLE', {
    because: `PostgreSQL takes parameter $${other} for ${typeByOid(oids[other - 1] ?? 0) ?? 'another type'}`,
    wouldRoute: TYPES_REMEDY,
  })
}

const TYPES_REMEDY = 'leave the types of parameters to PostgreSQL, or declare those of the columns'

function differing(plan: KeyedPlan, oids: readonly (number | null)[]): number | null {
  for (const [i, oid] of oids.entries()) {
    const wanted = plan.parameterTypes[i] ?? null
    if (oid === null || wanted === null) continue
    const type = typeByOid(oid)
    if (type !== wanted && !(SAME_TEXT.has(type) && SAME_TEXT.has(wanted))) return i + 1
  }
  return null
}

/** Session state that decides what a name, a right or a string means. */
const DECIDES = /search_path|\brole\b|session_authorization|standard_conforming_strings|client_encoding|\ball\b|\btemp|set_config/i

/** Statements of one text or batch are planned before the first of them runs: what follows such a setting is in doubt. */
export function afterSettings(list: readonly PlannedStatement[]): readonly PlannedStatement[] {
  const at = list.findIndex(({ plan, sql }) =>
    plan.kind === 'session' ? DECIDES.test(plan.statement) : plan.kind === 'pass' && DECIDES.test(sql) && SETS.test(sql),
  )
  if (at < 0 || at === list.length - 1) return list
  return list.map((one, i) => {
    if (i <= at || (one.plan.kind !== 'pass' && one.plan.kind !== 'keyed')) return one
    return {
      sql: one.sql,
      plan: unroutable(one.plan, 'a statement before it in the same batch changes what it means', 'send it by itself'),
    }
  })
}

const SETS = /set_config|^\s*(set|reset|do|call)\b/i

/**
 * With standard_conforming_strings off a backslash means something else inside quotes than the parser here takes it for. A text
 * without one reads the same either way.
 */
export const QUOTED_OTHERWISE: Plan = {
  kind: 'unroutable',
  reads: false,
  because: 'standard_conforming_strings is off and it has a backslash',
  wouldRoute: 'the setting were on, or values came as parameters',
}

function unroutable(plan: Plan, because: string, wouldRoute: string): Plan {
  return { kind: 'unroutable', reads: plan.kind === 'keyed' && plan.readOnly && !plan.locks, because, wouldRoute }
}
