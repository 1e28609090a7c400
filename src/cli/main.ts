#!/usr/bin/env node
// Promises: the `switchback` command. Each command is a file of its own.
import { setMaxListeners } from 'node:events'
import { readFileSync, writeSync } from 'node:fs'
import { Command, CommanderError } from 'commander'
import { SwitchbackError } from '../model/errors.ts'
import { COMMANDS } from './commands.ts'
import { createOutput } from './output.ts'

// One signal ends everything in a process: many wait on it, and each takes its listener back.
setMaxListeners(0)

const program = new Command('switchback')
  .description('Moves a live PostgreSQL service to a distributed NoSQL store, a range of keys at a time, and can always go back.')
  .version(version(), '-V, --version')
  .addHelpText('after', '\nExit codes: 0 pass, 1 fail, 2 usage or environment, 3 inconclusive.\nDocumentation: docs/ in the package.')

for (const make of COMMANDS) program.addCommand(make())
throwOnUsage(program)
process.stdout.on('error', onOutputError)
process.stderr.on('error', onOutputError)

try {
  await program.parseAsync()
} catch (error) {
  if (!(error instanceof CommanderError)) throw error
  process.exitCode = error.exitCode === 0 ? 0 : usageError(error)
}

/** Commander's own errors (unknown option, missing argument) are usage errors: told here, exit code 2. */
function throwOnUsage(command: Command): void {
  command.exitOverride()
  command.configureOutput({ outputError: () => undefined })
  for (const child of command.commands) throwOnUsage(child)
}

function usageError(error: CommanderError): number {
  const help = error.code === 'commander.help'
  const problem = help ? 'no command was given' : error.message.replace(/^error: /, '')
  return createOutput({ json: process.argv.includes('--json') }).error(new SwitchbackError('USAGE', { problem }))
}

/** Whoever read it has gone (`| head`): the work goes on. A full disk under it is an error, told where it still can be. */
function onOutputError(error: NodeJS.ErrnoException): void {
  if (error.code === 'EPIPE') return
  process.exitCode = 2
  try {
    writeSync(
      2,
      `error OUTPUT_FAILED: what the command prints could not be written: ${error.message}\n  Its work is done. Make room there.\n`,
    )
  } catch {
    // Then nobody can be told.
  }
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
