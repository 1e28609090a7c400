#!/usr/bin/env node
// Promises: the `switchback` command. Each command is a file of its own, loaded only when it is called.
import { setMaxListeners } from 'node:events'
import { readFileSync } from 'node:fs'
import { Command, CommanderError } from 'commander'
import { backfillCommand } from './backfill.ts'
import { canaryCommand } from './canary.ts'
import { controllerCommand } from './controller.ts'
import { demoCommand } from './demo.ts'
import { finalizeCommand } from './finalize.ts'
import { gatewayCommand } from './gateway.ts'
import { initCommand } from './init.ts'
import { parityCommand } from './parity.ts'
import { readonlyCommand } from './readonly.ts'
import { rollbackCommand } from './rollback.ts'
import { statusCommand } from './status.ts'
import { uninstallCommand } from './uninstall.ts'
import { upCommand } from './up.ts'

// One signal ends everything in a process: many wait on it, and each takes its listener back.
setMaxListeners(0)

const program = new Command('switchback')
  .description('Moves a live PostgreSQL service to a distributed NoSQL store, a range of keys at a time, and can always go back.')
  .version(version(), '-V, --version')
  .showHelpAfterError('(run it with --help for its options)')
  .addHelpText('after', '\nExit codes: 0 pass, 1 fail, 2 usage or environment, 3 inconclusive.\nDocumentation: docs/ in the package.')

for (const make of [
  initCommand,
  gatewayCommand,
  controllerCommand,
  upCommand,
  backfillCommand,
  canaryCommand,
  rollbackCommand,
  readonlyCommand,
  parityCommand,
  statusCommand,
  finalizeCommand,
  uninstallCommand,
  demoCommand,
]) {
  program.addCommand(make())
}
exitWithTwoOnUsage(program)

try {
  await program.parseAsync()
} catch (error) {
  if (!(error instanceof CommanderError)) throw error
  process.exitCode = error.exitCode === 0 ? 0 : 2
}

/** Commander's own errors (unknown option, missing argument) are usage errors: exit code 2. */
function exitWithTwoOnUsage(command: Command): void {
  command.exitOverride()
  for (const child of command.commands) exitWithTwoOnUsage(child)
}

function version(): string {
  for (const up of ['../..', '../../..']) {
    try {
      const found = JSON.parse(readFileSync(new URL(`${up}/package.json`, import.meta.url), 'utf8')) as { name?: string; version?: string }
      if (found.name === 'switchback' && found.version !== undefined) return found.version
    } catch {
      // Compiled code lies one folder deeper than the sources.
    }
  }
  return 'unknown'
}
