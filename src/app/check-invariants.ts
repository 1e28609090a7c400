// Promises: the configuration's business invariants, asked of PostgreSQL, to which both the source's own writes and the target's come.
// What has not come back yet is not seen: parity says what has.
import type { Workspace } from './workspace.ts'

export interface InvariantResult {
  readonly name: string
  readonly violations: number
}

export async function checkInvariants(workspace: Workspace): Promise<readonly InvariantResult[]> {
  const results: InvariantResult[] = []
  for (const { name, violations } of workspace.config.invariants ?? []) {
    const { rows } = await workspace.client.query<{ n: string }>(`select count(*)::text as n from (${violations}) as violations`)
    results.push({ name, violations: Number(rows[0]!.n) })
  }
  return results
}
