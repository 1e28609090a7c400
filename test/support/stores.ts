// Promises: both stores of a whole move as a command of its own sees them, and a comparison of all rows.
import { openSource, openWorkspaceTarget } from '../../src/app/open-parts.ts'
import { parityNow } from '../../src/app/run-parity.ts'
import { openWorkspace, type Workspace } from '../../src/app/workspace.ts'
import type { Target } from '../../src/model/target.ts'
import type { ParityReport } from '../../src/parity/compare.ts'
import type { Move } from './move.ts'

export interface Stores extends AsyncDisposable {
  readonly workspace: Workspace
  readonly target: Target
  parity(): Promise<ParityReport>
}

const PARITY_WITHIN_MS = 60_000

export async function openStores(move: Move): Promise<Stores> {
  const workspace = await openWorkspace(move.configPath, move.env)
  const target = await openWorkspaceTarget(workspace, move.env)
  return {
    workspace,
    target,
    async parity() {
      const { report } = await parityNow({
        workspace,
        source: openSource(workspace),
        target,
        share: 1,
        certificate: false,
        onProgress: () => undefined,
        signal: AbortSignal.timeout(PARITY_WITHIN_MS),
      })
      return report
    },
    async [Symbol.asyncDispose]() {
      await target.close()
      await workspace.close()
    },
  }
}
