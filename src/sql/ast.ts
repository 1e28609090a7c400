// Promises: small, total helpers over the grammar's tree; nothing here decides anything.
import type { Node } from 'libpg-query'

export type { Node }

/** Why a statement cannot run on the target, and what would make it routable. Caught by the classifier, never by a client. */
export class NotDerivable extends Error {
  override readonly name = 'NotDerivable'
  readonly wouldRoute: string

  constructor(because: string, wouldRoute = 'write it with what the gateway derives, or give a typed handler for this SQL text') {
    super(because)
    this.wouldRoute = wouldRoute
  }
}

/** The kind of a node: its only property's name. */
export function kindOf(node: Node): string {
  for (const kind in node) return kind
  return 'nothing'
}

/** Texts of a list of String nodes, e.g. a qualified name. */
export function names(list: readonly Node[] | undefined): string[] {
  const texts: string[] = []
  for (const node of list ?? []) {
    if (!('String' in node)) throw new NotDerivable(`a name made of ${kindOf(node)}`)
    texts.push(node.String.sval ?? '')
  }
  return texts
}

/** The top-level conjuncts of a condition. */
export function conjuncts(node: Node | undefined): Node[] {
  if (node === undefined) return []
  if ('BoolExpr' in node && node.BoolExpr.boolop === 'AND_EXPR') return (node.BoolExpr.args ?? []).flatMap(conjuncts)
  return [node]
}

/** Calls `visit` for every object of the tree with the name of the property it hangs under; false from it stops the descent. */
export function walk(tree: unknown, visit: (kind: string, fields: Readonly<Record<string, unknown>>) => boolean | undefined): void {
  if (Array.isArray(tree)) {
    for (const item of tree) walk(item, visit)
    return
  }
  if (typeof tree !== 'object' || tree === null) return
  for (const [kind, fields] of Object.entries(tree)) {
    if (typeof fields !== 'object' || fields === null) continue
    if (!Array.isArray(fields) && visit(kind, fields as Readonly<Record<string, unknown>>) === false) continue
    walk(fields, visit)
  }
}
