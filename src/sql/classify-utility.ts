// Promises: everything that is not select, insert, update, delete or merge: transaction control, session state, and utility
// statements, which run on PostgreSQL if no mapped table is in their closure.
import type { DefElem, TransactionStmt, VariableSetStmt } from 'libpg-query'
import type { Plan, TransactionControl } from '../model/plan.ts'
import { type Node, walk } from './ast.ts'
import { type Closure, type Names, resolveRelation, tableByName } from './closure.ts'
import { isRead, openEnd, refusedKind, shadowed, shadowing, writtenName } from './verdicts.ts'

const PASS: Plan = { kind: 'pass', pins: false }
const PINS: Plan = { kind: 'pass', pins: true }

/** Statements that touch no table's rows and whose effect belongs to PostgreSQL, mapped tables named or not. */
const ALWAYS_PASS = new Set([
  'GrantStmt',
  'GrantRoleStmt',
  'CommentStmt',
  'VacuumStmt',
  'CheckPointStmt',
  'CreateRoleStmt',
  'AlterRoleStmt',
  'AlterRoleSetStmt',
  'DropRoleStmt',
  'AlterDatabaseSetStmt',
  'CreatedbStmt',
  'AlterSystemStmt',
  'CreateFunctionStmt',
])

const PINNING = new Set(['ListenStmt', 'UnlistenStmt', 'NotifyStmt', 'FetchStmt', 'ClosePortalStmt', 'ConstraintsSetStmt'])

export function classifyUtility(node: Node, closure: Closure, context: Names): Plan {
  if ('TransactionStmt' in node) return control(node.TransactionStmt)
  if ('VariableSetStmt' in node) return setting(node.VariableSetStmt)
  if ('VariableShowStmt' in node) return session(`SHOW ${node.VariableShowStmt.name ?? ''}`)
  if ('DiscardStmt' in node) return session(node.DiscardStmt.target?.replace('DISCARD_', 'DISCARD ') ?? 'DISCARD ALL')
  if ('DeallocateStmt' in node) return session('DEALLOCATE')
  const [kind = ''] = Object.keys(node)
  if (ALWAYS_PASS.has(kind)) return PASS
  if (PINNING.has(kind)) return PINS
  if ('DoStmt' in node) return unroutable('do runs code that names no table beforehand', 'run its statements one by one')
  if ('ExecuteStmt' in node) return unroutable('execute names no table', 'prepare through the protocol instead of prepare and execute')
  if ('DropStmt' in node || 'DropOwnedStmt' in node || 'ReassignOwnedStmt' in node) return drop(node, context)
  return overTables(node, kind, closure, context)
}

function overTables(node: Node, kind: string, closure: Closure, context: Names): Plan {
  const what = refusedKind(node)
  if ('ExplainStmt' in node && closure.mapped.size > 0) {
    const reads = isRead(closure) && !/"analyze"/.test(JSON.stringify(node.ExplainStmt.options ?? []))
    return {
      kind: 'unroutable',
      reads,
      because: 'explain shows the plan of PostgreSQL, not of the target',
      wouldRoute: 'nothing: it says nothing of a moved key',
    }
  }
  if (closure.mapped.size > 0) {
    const reads = ('CopyStmt' in node && !node.CopyStmt.is_from && isRead(closure)) || ('DeclareCursorStmt' in node && isRead(closure))
    return {
      kind: 'unroutable',
      reads,
      because: `${what} over the mapped table ${[...closure.mapped].join(', ')}`,
      wouldRoute: 'select, insert, update or delete with the partition key given',
    }
  }
  const executed = EXECUTES.has(kind)
  const made = 'CreateTableAsStmt' in node ? writtenName(node.CreateTableAsStmt.into?.rel) : null
  const open = executed ? openEnd(closure, made) : (closure.unknown[0] ?? null)
  if (open !== null && (executed || !isDefinition(kind))) return unroutable(open, 'name tables and functions that the catalog can follow')
  if ('TruncateStmt' in node && node.TruncateStmt.behavior === 'DROP_CASCADE')
    return unroutable('truncate ... cascade follows foreign keys', 'name the tables')
  const hides = temporary(node, context)
  if (hides.shadows !== null) return shadowing(hides.shadows)
  return EXECUTES.has(kind) && TAKES_STATE.has(kind)
    ? PINS
    : { kind: 'pass', pins: hides.temporary || closure.pins || TAKES_STATE.has(kind) }
}

/** Run queries or calls of their own, so that all they name must be known. */
const EXECUTES = new Set([
  'CopyStmt',
  'DeclareCursorStmt',
  'PrepareStmt',
  'ExplainStmt',
  'CallStmt',
  'CreateTableAsStmt',
  'RefreshMatViewStmt',
  'LockStmt',
  'TruncateStmt',
])
const TAKES_STATE = new Set(['DeclareCursorStmt', 'PrepareStmt', 'LockStmt'])

function isDefinition(kind: string): boolean {
  return /^(Create|Alter|Define|View|Rule|Index|Rename|Comment|Import)/.test(kind)
}

function temporary(node: Node, context: Names): { temporary: boolean; shadows: ReturnType<typeof shadowed> } {
  let isTemporary = false
  let shadows: ReturnType<typeof shadowed> = null
  walk(node, (kind, fields) => {
    if ((kind === 'relation' || kind === 'rel' || kind === 'view') && typeof fields['relname'] === 'string') {
      const relation = fields as { relname: string; relpersistence?: string; schemaname?: string }
      isTemporary ||= relation.relpersistence === 't' || (relation.schemaname?.startsWith('pg_temp') ?? false)
      shadows ??= shadowed(relation, context)
    }
    return undefined
  })
  return { temporary: isTemporary, shadows }
}

function drop(node: Node, context: Names): Plan {
  if (!('DropStmt' in node)) return unroutable('it may drop or change a mapped table', 'name the objects')
  let mapped: string | null = null
  const look = (path: readonly string[]) => {
    const [relname = '', schemaname] = [...path].reverse()
    const name = resolveRelation(context, schemaname === undefined ? { relname } : { relname, schemaname })
    if (name === null) return
    const reach = context.catalog.relations.get(name)?.reach ?? []
    if (
      tableByName(context, name) !== undefined ||
      (reach !== 'unknown' && reach.length > 0 && node.DropStmt.removeType === 'OBJECT_TABLE')
    )
      mapped = name
  }
  for (const object of node.DropStmt.objects ?? []) {
    const path: string[] = []
    walk({ object }, (kind, fields) => {
      if (kind === 'String') path.push(String(fields['sval'] ?? ''))
      return undefined
    })
    if (node.DropStmt.removeType === 'OBJECT_SCHEMA')
      mapped ??= context.mapping.tables.find((table) => table.schema === path[0])?.name ?? null
    else if (node.DropStmt.removeType === 'OBJECT_TRIGGER' || node.DropStmt.removeType === 'OBJECT_RULE') look(path.slice(0, -1))
    else look(path)
  }
  return mapped === null
    ? PASS
    : unroutable(`drop over the mapped table ${mapped}`, 'nothing: a mapped table stays as it is while it moves')
}

function control(statement: TransactionStmt): Plan {
  const { kind, options, chain } = statement
  const isolation = optionText(options, 'transaction_isolation')
  const only = optionText(options, 'transaction_read_only')
  const readOnly = only === null ? null : only === '1' || only === 'true'
  const plain = (what: TransactionControl): Plan => ({
    kind: 'control',
    control: what,
    isolation: null,
    readOnly: null,
    chain: chain === true,
  })
  switch (kind) {
    case 'TRANS_STMT_BEGIN':
    case 'TRANS_STMT_START':
      return { kind: 'control', control: 'begin', isolation, readOnly, chain: false }
    case 'TRANS_STMT_COMMIT':
      return plain('commit')
    case 'TRANS_STMT_ROLLBACK':
      return plain('abort')
    case 'TRANS_STMT_SAVEPOINT':
      return plain('savepoint')
    case 'TRANS_STMT_RELEASE':
      return plain('release')
    case 'TRANS_STMT_ROLLBACK_TO':
      return plain('rollback to')
    case 'TRANS_STMT_PREPARE':
      return plain('prepare transaction')
    default:
      // COMMIT PREPARED and ROLLBACK PREPARED end what PostgreSQL alone holds.
      return PASS
  }
}

function optionText(options: readonly Node[] | undefined, name: string): string | null {
  for (const node of options ?? []) {
    if (!('DefElem' in node) || node.DefElem.defname !== name) continue
    return valueText(node.DefElem)
  }
  return null
}

function valueText(option: DefElem): string | null {
  const { arg } = option
  if (arg === undefined || !('A_Const' in arg)) return null
  const { sval, ival, boolval } = arg.A_Const
  if (sval !== undefined) return sval.sval ?? ''
  if (ival !== undefined) return String(ival.ival ?? 0)
  return boolval === undefined ? null : String(boolval.boolval ?? false)
}

function setting(statement: VariableSetStmt): Plan {
  const { kind, name = '', is_local } = statement
  if (kind === 'VAR_SET_MULTI') return session(`SET ${name}`)
  // SET LOCAL ends with a transaction that PostgreSQL must then hold.
  if (is_local) return PINS
  if (kind === 'VAR_RESET_ALL') return session('RESET ALL')
  return session(`${kind === 'VAR_RESET' ? 'RESET' : 'SET'} ${name}`)
}

function session(statement: string): Plan {
  return { kind: 'session', statement }
}

function unroutable(because: string, wouldRoute: string): Plan {
  return { kind: 'unroutable', reads: false, because, wouldRoute }
}
