// Promises: the adapters that the configuration names, opened for a workspace.
import { systemClock } from '../lib/clock.ts'
import { systemRandom } from '../lib/prng.ts'
import type { Source } from '../model/source.ts'
import type { Target } from '../model/target.ts'
import { createSource } from '../source/postgres-source.ts'
import { openTarget } from './open-target.ts'
import type { Workspace } from './workspace.ts'

export function openSource(workspace: Workspace): Source {
  return createSource({ url: workspace.url, mapping: workspace.mapping, migration: workspace.config.migration, clock: systemClock })
}

export function openWorkspaceTarget(
  workspace: Pick<Workspace, 'config' | 'mapping'>,
  env: NodeJS.ProcessEnv,
  silent: { readonly silentAfterMs?: number } = {},
): Promise<Target> {
  return openTarget({
    config: workspace.config.target,
    mapping: workspace.mapping,
    env,
    clock: systemClock,
    random: systemRandom,
    ...silent,
  })
}
