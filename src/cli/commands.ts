// Promises: the commands, in the order in which `switchback --help` and the documentation list them. Each comes with its parts only when it
// is asked for: a gateway that starts again after a crash loads nothing that only others need.
import type { Command } from 'commander'

/** By name. */
export const COMMANDS: ReadonlyMap<string, () => Promise<Command>> = new Map([
  ['init', async () => (await import('./init.ts')).initCommand()],
  ['gateway', async () => (await import('./gateway.ts')).gatewayCommand()],
  ['controller', async () => (await import('./controller.ts')).controllerCommand()],
  ['up', async () => (await import('./up.ts')).upCommand()],
  ['backfill', async () => (await import('./backfill.ts')).backfillCommand()],
  ['canary', async () => (await import('./canary.ts')).canaryCommand()],
  ['rollback', async () => (await import('./rollback.ts')).rollbackCommand()],
  ['judge', async () => (await import('./judge.ts')).judgeCommand()],
  ['readonly', async () => (await import('./readonly.ts')).readonlyCommand()],
  ['parity', async () => (await import('./parity.ts')).parityCommand()],
  ['poison', async () => (await import('./poison.ts')).poisonCommand()],
  ['status', async () => (await import('./status.ts')).statusCommand()],
  ['reconcile', async () => (await import('./reconcile.ts')).reconcileCommand()],
  ['finalize', async () => (await import('./finalize.ts')).finalizeCommand()],
  ['uninstall', async () => (await import('./uninstall.ts')).uninstallCommand()],
  ['demo', async () => (await import('./demo.ts')).demoCommand()],
])
