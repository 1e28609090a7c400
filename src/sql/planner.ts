// Promises: plans by exact text, search_path and catalog digest, bounded by bytes. Fingerprints are never a key: those of
// `a=$1 and b=$2` and `b=$1 and a=$2` are the same (gateway.md, Plans). A hit costs two map look-ups.
import type { Catalog } from '../model/catalog.ts'
import type { Mapping, TableName } from '../model/mapping.ts'
import type { PlannedStatement, StatementPlanner } from '../model/plan.ts'
import { type Classifying, classify } from './classify.ts'
import { labelOf } from './label.ts'
import type { Parsed, Parser } from './parse.ts'
import { type TableRules, tableRules } from './write-rules.ts'

export interface PlannerLimits {
  /** Estimated bytes of all cached plans. */
  readonly cacheBytes: number
  /** UTF-8 bytes of one text; a longer one is unroutable. */
  readonly sqlBytesMax: number
}

export const PLANNER_LIMITS: PlannerLimits = { cacheBytes: 64 * 1024 * 1024, sqlBytesMax: 65_536 }

export interface PlannerOptions {
  readonly mapping: Mapping
  readonly catalog: () => Catalog
  readonly parser: Parser
  readonly limits: PlannerLimits
}

type Plans = readonly PlannedStatement[]

export function createPlanner(options: PlannerOptions): StatementPlanner & { close(): Promise<void> } {
  const { mapping, catalog, parser, limits } = options
  const cache = planCache(limits.cacheBytes)
  const pending = new Map<string, Promise<Plans>>()
  let rules: { digest: string; tables: Promise<ReadonlyMap<TableName, TableRules>> } | null = null

  const rulesFor = (now: Catalog) => {
    if (rules?.digest !== now.digest) rules = { digest: now.digest, tables: tableRules(mapping, parser, foreignTo(now)) }
    return rules.tables
  }

  const make = async (sql: string, searchPath: readonly string[]): Promise<Plans> => {
    const tooLong = Buffer.byteLength(sql) > limits.sqlBytesMax
    const parsed: Parsed = tooLong ? 'too long' : await parser.parse(sql)
    const now = catalog()
    const tables = await rulesFor(now)
    const plans = plansOf(sql, parsed, { mapping, catalog: now, searchPath, rules: tables }, limits)
    cache.set(environmentOf(now.digest, searchPath), sql, plans)
    return plans
  }

  return {
    cached: (sql, searchPath) => cache.get(environmentOf(catalog().digest, searchPath), sql),
    async plan(sql, searchPath) {
      const environment = environmentOf(catalog().digest, searchPath)
      const hit = cache.get(environment, sql)
      if (hit !== undefined) return hit
      const name = `${environment}\0${sql}`
      let running = pending.get(name)
      if (running === undefined) {
        running = make(sql, searchPath).finally(() => pending.delete(name))
        pending.set(name, running)
      }
      return running
    },
    close: () => parser.close(),
  }
}

function environmentOf(digest: string, searchPath: readonly string[]): string {
  return searchPath.length === 1 ? `${digest}\0${searchPath[0]}` : `${digest}\0${searchPath.join('\0')}`
}

/** The catalog's own expressions are printed under a search_path of the reader's: a user's function of the name anywhere is doubt. */
function foreignTo(catalog: Catalog): (name: string) => boolean {
  const foreign = new Set<string>()
  for (const overloads of catalog.functions.values()) for (const one of overloads) if (!one.builtin) foreign.add(one.name)
  return (name) => foreign.has(name)
}

function plansOf(sql: string, parsed: Parsed, context: Classifying, limits: PlannerLimits): Plans {
  if (parsed === 'too long' || parsed === 'too deep') {
    const because = parsed === 'too long' ? `the text is longer than ${limits.sqlBytesMax} bytes (sqlBytesMax)` : 'it is nested too deeply'
    return [{ sql, plan: { kind: 'unroutable', reads: false, because, wouldRoute: 'shorten it' } }]
  }
  // PostgreSQL says itself what is wrong with it, or that it is empty.
  if (parsed === 'refused' || parsed.length === 0) return [{ sql, plan: { kind: 'pass', pins: false } }]
  return parsed.map(({ sql: text, node }) => {
    const plan = classify(node, context)
    return plan.kind === 'keyed' ? { sql: text, plan, label: labelOf(text) } : { sql: text, plan }
  })
}

/** What a plan of closures weighs, about: measured 4-12 KB for common statements. */
const PLAN_BYTES = 8192
const BYTES_A_CHARACTER = 24

interface Generation {
  readonly plans: Map<string, Map<string, Plans>>
  bytes: number
}

/** Two generations: what is used moves to the young one; when that holds half of the limit, the old one goes. */
function planCache(bytesMax: number) {
  let young: Generation = { plans: new Map(), bytes: 0 }
  let old: Generation = { plans: new Map(), bytes: 0 }
  const set = (environment: string, sql: string, plans: Plans) => {
    const bytes = PLAN_BYTES * plans.length + BYTES_A_CHARACTER * sql.length
    if (bytes > bytesMax / 2) return
    if (young.bytes + bytes > bytesMax / 2) {
      old = young
      young = { plans: new Map(), bytes: 0 }
    }
    let inner = young.plans.get(environment)
    if (inner === undefined) {
      inner = new Map()
      young.plans.set(environment, inner)
    }
    inner.set(sql, plans)
    young.bytes += bytes
  }
  return {
    set,
    get(environment: string, sql: string): Plans | undefined {
      const hit = young.plans.get(environment)?.get(sql)
      if (hit !== undefined) return hit
      const aged = old.plans.get(environment)?.get(sql)
      if (aged !== undefined) set(environment, sql, aged)
      return aged
    },
  }
}
