// Promises: a scalar expression of the grammar becomes closures with PostgreSQL's types, three-valued logic and errors, once, at
// plan time. What is not derived exactly throws NotDerivable.
import type { A_Const, A_Expr, CaseExpr, FuncCall, TypeCast } from 'libpg-query'
import type { ColumnType } from '../model/mapping.ts'
import { AGGREGATES, aggregate } from './aggregates.ts'
import { arrayText } from './array.ts'
import { kindOf, type Node, NotDerivable, names } from './ast.ts'
import { applyModifier, coerce, fold } from './coerce.ts'
import { parseDecimal } from './decimal.ts'
import { constant, type Expression, expression, textOf } from './expression-types.ts'
import { callFunction } from './functions.ts'
import { between, booleanTest, conjunction, disjunction, inList, inverse, like, nullIf, nullTest, quantified, sameness } from './logic.ts'
import { binary, compare, negated, orderOf } from './operators.ts'
import { parameter, resolveColumn, type Scope } from './scope.ts'
import { isArray, isNumber, isText, resolveTypeName, type SqlType, typeLabel, widerNumber } from './types.ts'

export function compile(node: Node | undefined, scope: Scope): Expression {
  if (node === undefined) throw new NotDerivable('an expression that is missing')
  if ('ColumnRef' in node) return resolveColumn(scope, names(node.ColumnRef.fields))
  if ('ParamRef' in node) return parameter(scope, node.ParamRef.number ?? 0)
  if ('A_Const' in node) return constantOf(node.A_Const)
  if ('A_Expr' in node) return operatorCall(node.A_Expr, scope)
  if ('TypeCast' in node) return typeCast(node.TypeCast, scope)
  if ('FuncCall' in node) return functionCall(node.FuncCall, scope)
  return compileRare(node, scope)
}

function compileRare(node: Node, scope: Scope): Expression {
  if ('BoolExpr' in node) {
    const args = (node.BoolExpr.args ?? []).map((arg) => condition(arg, scope))
    if (node.BoolExpr.boolop === 'NOT_EXPR') return inverse(args[0]!)
    return node.BoolExpr.boolop === 'AND_EXPR' ? conjunction(args) : disjunction(args)
  }
  if ('NullTest' in node) return nullTest(compile(node.NullTest.arg, scope), node.NullTest.nulltesttype === 'IS_NULL')
  if ('BooleanTest' in node) return booleanTest(condition(node.BooleanTest.arg, scope), node.BooleanTest.booltesttype ?? 'IS_TRUE')
  if ('CoalesceExpr' in node)
    return coalesce(
      (node.CoalesceExpr.args ?? []).map((arg) => compile(arg, scope)),
      scope,
    )
  if ('MinMaxExpr' in node) {
    const greatest = node.MinMaxExpr.op === 'IS_GREATEST'
    return extreme(
      (node.MinMaxExpr.args ?? []).map((arg) => compile(arg, scope)),
      greatest,
      scope,
    )
  }
  if ('CaseExpr' in node) return caseOf(node.CaseExpr, scope)
  if ('SQLValueFunction' in node) {
    const { op, typmod = -1 } = node.SQLValueFunction
    if (op === 'SVFOP_CURRENT_TIMESTAMP') return callFunction(scope, 'now', [])
    if (op === 'SVFOP_CURRENT_TIMESTAMP_N') return applyModifier(callFunction(scope, 'now', []), typmod, true)
    throw new NotDerivable(`${(op ?? '').replace('SVFOP_', '').toLowerCase()}, which hangs on the session`)
  }
  if ('A_ArrayExpr' in node)
    return arrayOf(
      (node.A_ArrayExpr.elements ?? []).map((one) => compile(one, scope)),
      scope,
    )
  if ('CollateClause' in node) return collated(compile(node.CollateClause.arg, scope), names(node.CollateClause.collname), scope)
  if ('SubLink' in node) throw new NotDerivable('a subquery', 'run it as a statement of its own')
  throw new NotDerivable(`${kindOf(node)} in an expression`)
}

/** An expression that must be boolean. */
export function condition(node: Node | undefined, scope: Scope): Expression {
  const one = compile(node, scope)
  if (one.type !== 'bool' && one.type !== 'unknown') throw new NotDerivable(`a condition of type ${typeLabel(one.type)}`)
  return coerce(scope, one, 'bool', 'implicit')
}

const DECIMAL_LITERAL = /^(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$/

function constantOf(node: A_Const): Expression {
  if (node.isnull) return { ...constant('unknown', null) }
  if (node.ival !== undefined) return constant('int4', BigInt(node.ival.ival ?? 0))
  if (node.boolval !== undefined) return constant('bool', node.boolval.boolval ?? false)
  if (node.sval !== undefined) {
    const literal = node.sval.sval ?? ''
    return { ...constant('unknown', literal), literal }
  }
  if (node.fval !== undefined) return numberLiteral(node.fval.fval ?? '')
  throw new NotDerivable('a bit string')
}

function numberLiteral(text: string): Expression {
  const bare = text.startsWith('-') ? text.slice(1) : text
  if (!DECIMAL_LITERAL.test(bare)) throw new NotDerivable(`the number ${text}`)
  if (/^\d+$/.test(bare)) {
    const whole = BigInt(text)
    if (whole < 1n << 63n && whole >= -(1n << 63n)) return constant('int8', whole)
  }
  return constant('numeric', parseDecimal(text)!)
}

function operatorName(node: A_Expr): string {
  const path = names(node.name)
  if (path.length > 1 && path[0] !== 'pg_catalog') throw new NotDerivable(`the operator ${path.join('.')}`)
  return path[path.length - 1] ?? ''
}

function operatorCall(node: A_Expr, scope: Scope): Expression {
  const name = operatorName(node)
  const left = () => compile(node.lexpr, scope)
  const right = () => compile(node.rexpr, scope)
  const list = () => {
    if (node.rexpr === undefined || !('List' in node.rexpr)) throw new NotDerivable('a list that is none')
    return (node.rexpr.List.items ?? []).map((item) => compile(item, scope))
  }
  switch (node.kind) {
    case 'AEXPR_OP': {
      if (node.lexpr === undefined) {
        if (name === '-') return negated(right())
        if (name === '+') return right()
        throw new NotDerivable(`the operator ${name}`)
      }
      const one = left()
      return binary(scope, name, one, right())
    }
    case 'AEXPR_OP_ANY':
    case 'AEXPR_OP_ALL': {
      const one = left()
      return quantified(scope, name, one, right(), node.kind === 'AEXPR_OP_ANY')
    }
    case 'AEXPR_DISTINCT':
    case 'AEXPR_NOT_DISTINCT': {
      const one = left()
      return sameness(scope, one, right(), node.kind === 'AEXPR_NOT_DISTINCT')
    }
    case 'AEXPR_NULLIF': {
      const one = left()
      return nullIf(scope, one, right())
    }
    case 'AEXPR_IN': {
      const one = left()
      return inList(scope, one, list(), name === '<>')
    }
    case 'AEXPR_LIKE': {
      const one = left()
      return like(scope, one, right(), name === '!~~')
    }
    case 'AEXPR_BETWEEN':
    case 'AEXPR_NOT_BETWEEN': {
      const one = left()
      return between(scope, one, list(), node.kind === 'AEXPR_NOT_BETWEEN')
    }
    default:
      throw new NotDerivable(`the operator ${name}`)
  }
}

function typeCast(node: TypeCast, scope: Scope): Expression {
  const { type, typmod } = resolveTypeName(node.typeName)
  // `array[...]::text[]` gives its elements the type, as PostgreSQL does.
  if (isArray(type) && node.arg !== undefined && 'A_ArrayExpr' in node.arg) {
    const elements = (node.arg.A_ArrayExpr.elements ?? []).map((one) =>
      coerce(scope, compile(one, scope), type.slice(0, -2) as ColumnType, 'explicit'),
    )
    return arrayValue(elements, type)
  }
  return applyModifier(coerce(scope, compile(node.arg, scope), type, 'explicit'), typmod, true)
}

function functionCall(node: FuncCall, scope: Scope): Expression {
  const path = names(node.funcname)
  const name = path[path.length - 1] ?? ''
  if (path.length > 2 || (path.length === 2 && path[0] !== 'pg_catalog')) throw new NotDerivable(`the function ${path.join('.')}()`)
  if (path.length === 1 && scope.foreignFunction(name)) throw new NotDerivable(`the function ${name}(), which a user has defined too`)
  if (node.over !== undefined || node.agg_order !== undefined || node.agg_within_group || node.func_variadic) {
    throw new NotDerivable(`the function ${name}() with over, order by, within group or variadic`)
  }
  if (AGGREGATES.has(name)) return aggregateCall(node, name, scope)
  if (node.agg_star || node.agg_distinct || node.agg_filter !== undefined) throw new NotDerivable(`the aggregate ${name}()`)
  const args = (node.args ?? []).map((arg) => compile(name === 'nextval' ? withoutRegclass(arg) : arg, scope))
  return callFunction(scope, name, args)
}

function withoutRegclass(node: Node): Node {
  if (!('TypeCast' in node) || node.TypeCast.arg === undefined) return node
  return names(node.TypeCast.typeName?.names).at(-1) === 'regclass' ? node.TypeCast.arg : node
}

function aggregateCall(node: FuncCall, name: string, scope: Scope): Expression {
  if (scope.inAggregate) throw new NotDerivable(`${name}() inside of an aggregate`)
  scope.inAggregate = true
  const args = (node.args ?? []).map((arg) => compile(arg, scope))
  const filter = node.agg_filter === undefined ? null : condition(node.agg_filter, scope)
  scope.inAggregate = false
  if (args.length !== (node.agg_star ? 0 : 1)) throw new NotDerivable(`${name}() with ${args.length} arguments`)
  return aggregate(scope, name, { argument: args[0] ?? null, distinct: node.agg_distinct ?? false, filter })
}

/** select_common_type. */
export function commonType(of: readonly Expression[]): ColumnType {
  let type: SqlType = 'unknown'
  for (const one of of) {
    if (one.type === 'unknown' || one.type === type) continue
    if (type === 'unknown') type = one.type
    else if (isNumber(type) && isNumber(one.type)) type = widerNumber(type, one.type)
    else if (isText(type) && isText(one.type) && type !== 'bpchar' && one.type !== 'bpchar') continue
    else throw new NotDerivable(`values of ${typeLabel(type)} and ${typeLabel(one.type)} in one place`)
  }
  return type === 'unknown' ? 'text' : type
}

function coalesce(args: readonly Expression[], scope: Scope): Expression {
  const type = commonType(args)
  const all = args.map((arg) => coerce(scope, arg, type, 'implicit'))
  const closures = all.map((one) => one.evaluate)
  return fold(
    expression(
      type,
      (frame) => {
        for (const evaluate of closures) {
          const value = evaluate(frame)
          if (value !== null) return value
        }
        return null
      },
      all,
    ),
  )
}

function extreme(args: readonly Expression[], greatest: boolean, scope: Scope): Expression {
  const type = commonType(args)
  const all = args.map((arg) => coerce(scope, arg, type, 'implicit'))
  const order = orderOf(...all)
  const wins = greatest ? 1 : -1
  const closures = all.map((one) => one.evaluate)
  return fold(
    expression(
      type,
      (frame) => {
        let best = closures[0]!(frame)
        for (const evaluate of closures.slice(1)) {
          const value = evaluate(frame)
          if (value !== null && (best === null || order(value, best) * wins > 0)) best = value
        }
        return best
      },
      all,
    ),
  )
}

function caseOf(node: CaseExpr, scope: Scope): Expression {
  const subject = node.arg === undefined ? null : compile(node.arg, scope)
  const conditions: Expression[] = []
  const branches: Expression[] = []
  for (const arm of node.args ?? []) {
    if (!('CaseWhen' in arm)) throw new NotDerivable('a case without when')
    const { expr, result } = arm.CaseWhen
    if (subject === null) conditions.push(condition(expr, scope))
    else conditions.push(compare(scope, '=', subject, compile(expr, scope)))
    branches.push(compile(result, scope))
  }
  const fallback = node.defresult === undefined ? constant('unknown', null) : compile(node.defresult, scope)
  // PostgreSQL looks at the default first.
  const type = commonType([fallback, ...branches])
  const results = [...branches, fallback].map((one) => coerce(scope, one, type, 'implicit'))
  const tests = conditions.map((one) => one.evaluate)
  const values = results.map((one) => one.evaluate)
  return expression(
    type,
    (frame) => {
      for (let i = 0; i < tests.length; i++) if (tests[i]!(frame) === true) return values[i]!(frame)
      return values[tests.length]!(frame)
    },
    // Never folded: a branch not taken must not fail.
    [{ ...constant('bool', true), constant: false, fixed: [...conditions, ...results].every((one) => one.fixed) }],
  )
}

function arrayOf(elements: readonly Expression[], scope: Scope): Expression {
  if (elements.length === 0) throw new NotDerivable('an empty array without a type')
  const type = commonType(elements)
  if (isArray(type)) throw new NotDerivable('an array of arrays')
  return arrayValue(
    elements.map((one) => coerce(scope, one, type, 'implicit')),
    `${type}[]` as ColumnType,
  )
}

function arrayValue(elements: readonly Expression[], type: ColumnType): Expression {
  const texts = elements.map(textOf)
  return fold(expression(type, (frame) => arrayText(texts.map((text) => text(frame))), elements))
}

function collated(one: Expression, path: readonly string[], scope: Scope): Expression {
  const name = path[path.length - 1]
  if (path.length > 2 || (path.length === 2 && path[0] !== 'pg_catalog') || (name !== 'C' && name !== 'POSIX')) {
    throw new NotDerivable(`the collation ${path.join('.')}`, 'use collate "C"')
  }
  const text = one.type === 'unknown' ? coerce(scope, one, 'text', 'implicit') : one
  if (!isText(text.type)) throw new NotDerivable(`a collation of ${typeLabel(text.type)}`)
  return { ...text, collation: 'C' }
}
