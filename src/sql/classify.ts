// Promises: each statement gets exactly one plan, and is keyed only where it is derived exactly. `pass` only where its whole
// catalog closure holds no mapped table; what is not known is unroutable (faults.md 39, 40, 62).

import type { TableName } from '../model/mapping.ts'
import { type Plan, SqlError } from '../model/plan.ts'
import { type Node, NotDerivable } from './ast.ts'
import { classifyUtility } from './classify-utility.ts'
import { type Closure, closureOf, hasForeignFunction, type Names, resolveRelation, systemFirst, tableByName } from './closure.ts'
import { deriveInsert } from './derive-insert.ts'
import type { DerivedPlan, Deriving } from './derive-plan.ts'
import { deriveSelect } from './derive-select.ts'
import { deriveDelete, deriveUpdate } from './derive-update.ts'
import { isRead, openEnd, shadowed, shadowing, writtenName } from './verdicts.ts'
import type { TableRules } from './write-rules.ts'

export interface Classifying extends Names {
  readonly rules: ReadonlyMap<TableName, TableRules>
}

export function classify(node: Node, context: Classifying): Plan | DerivedPlan {
  const closure = closureOf(node, context)
  if ('SelectStmt' in node && node.SelectStmt.intoClause !== undefined) return intoTable(node.SelectStmt.intoClause.rel, closure, context)
  const derive = derivationOf(node)
  if (derive === null) return classifyUtility(node, closure, context)
  if (closure.sets) return settingByFunction(closure)
  const reads = 'SelectStmt' in node && isRead(closure)
  const open = openEnd(closure)
  if (closure.mapped.size === 0) {
    if (open === null) return { kind: 'pass', pins: closure.pins }
    return { kind: 'unroutable', reads, because: open, wouldRoute: 'name tables and functions that the catalog can follow' }
  }
  if (!systemFirst(context)) {
    return {
      kind: 'unroutable',
      reads,
      because: 'pg_catalog is not first in the search_path',
      wouldRoute: 'leave pg_catalog out of the search_path',
    }
  }
  const deriving: Deriving = {
    mapping: context.mapping,
    rules: context.rules,
    foreignFunction: (name) => hasForeignFunction(context, name),
    tableFor: (relation) => {
      const name = resolveRelation(context, relation)
      return name === null ? null : (tableByName(context, name) ?? null)
    },
  }
  try {
    return derive(deriving)
  } catch (error) {
    if (error instanceof NotDerivable) return { kind: 'unroutable', reads, because: error.message, wouldRoute: error.wouldRoute }
    if (!(error instanceof SqlError)) throw error
    // A constant that PostgreSQL refuses: it says so itself.
    return { kind: 'unroutable', reads, because: `PostgreSQL refuses it: ${error.message}`, wouldRoute: 'correct the statement' }
  }
}

function derivationOf(node: Node): ((deriving: Deriving) => DerivedPlan) | null {
  if ('SelectStmt' in node) return (deriving) => deriveSelect(node.SelectStmt, deriving)
  if ('InsertStmt' in node) return (deriving) => deriveInsert(node.InsertStmt, deriving)
  if ('UpdateStmt' in node) return (deriving) => deriveUpdate(node.UpdateStmt, deriving)
  if ('DeleteStmt' in node) return (deriving) => deriveDelete(node.DeleteStmt, deriving)
  if ('MergeStmt' in node) {
    return () => {
      throw new NotDerivable('merge', 'write it as insert ... on conflict')
    }
  }
  return null
}

/** set_config() is SET: what it changes must be read again. */
function settingByFunction(closure: Closure): Plan {
  if (closure.mapped.size === 0 && openEnd(closure) === null && !closure.writes) return { kind: 'session', statement: 'SELECT set_config' }
  return {
    kind: 'unroutable',
    reads: false,
    because: 'it changes a setting and touches tables',
    wouldRoute: 'set_config in a statement of its own',
  }
}

/** SELECT INTO creates a table. */
function intoTable(
  relation: { relname?: string; relpersistence?: string; schemaname?: string } | undefined,
  closure: Closure,
  context: Classifying,
): Plan {
  if (closure.mapped.size > 0) {
    return {
      kind: 'unroutable',
      reads: false,
      because: 'it makes a table of rows of a mapped one',
      wouldRoute: 'select the rows and insert them',
    }
  }
  const open = openEnd(closure, writtenName(relation))
  if (open !== null)
    return { kind: 'unroutable', reads: false, because: open, wouldRoute: 'name tables and functions that the catalog can follow' }
  const hides = relation === undefined ? null : shadowed(relation, context)
  if (hides !== null) return shadowing(hides)
  return { kind: 'pass', pins: relation?.relpersistence === 't' }
}
