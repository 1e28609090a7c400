// Promises: `switchback` as a function: a command line in, its words on the edge's streams and its exit code at the end. Nothing of the
// process is read or changed but what an edge names, the working folder and, while a command runs, the handlers of its signals.
import { readFileSync } from 'node:fs'
import { Command, CommanderError } from 'commander'
import { SwitchbackError } from '../model/errors.ts'
import { type Edge, edgeOf, setEdge } from './command.ts'
import { COMMANDS } from './commands.ts'
import { createOutput } from './output.ts'

/** `args` without node and the script. */
export async function runProgram(args: readonly string[], edge?: Edge): Promise<void> {
  const program = new Command('switchback')
    .description('Moves a live PostgreSQL service to a distributed NoSQL store, a range of keys at a time, and can always go back.')
    .version(version(), '-V, --version')
    .addHelpText('after', '\nExit codes: 0 pass, 1 fail, 2 usage or environment, 3 inconclusive.\nDocumentation: docs/ in the package.')
  for (const make of commandsFor(args)) program.addCommand(await make())
  if (edge !== undefined) setEdge(program, edge)
  const { stdout, stderr, exit } = edgeOf(program)
  throwOnUsage(program, { writeOut: (text) => stdout.write(text), writeErr: (text) => stderr.write(text) })
  try {
    await program.parseAsync([...args], { from: 'user' })
  } catch (error) {
    if (!(error instanceof CommanderError)) throw error
    exit(error.exitCode === 0 ? 0 : usageError(error, args, edgeOf(program)))
  }
}

/** The one that is named, or all, for a help text or a word on what there is. */
function commandsFor([first = '']: readonly string[]): readonly (() => Promise<Command>)[] {
  const named = COMMANDS.get(first)
  return named === undefined ? [...COMMANDS.values()] : [named]
}

/** Commander's own errors (unknown option, missing argument) are usage errors: told here, exit code 2. */
function throwOnUsage(command: Command, streams: { writeOut(text: string): void; writeErr(text: string): void }): void {
  command.exitOverride()
  command.configureOutput({ ...streams, outputError: () => undefined })
  for (const child of command.commands) throwOnUsage(child, streams)
}

function usageError(error: CommanderError, args: readonly string[], { stdout, stderr }: Edge): number {
  const help = error.code === 'commander.help'
  const problem = help ? 'no command was given' : error.message.replace(/^error: /, '')
  return createOutput({ json: args.includes('--json'), stdout, stderr }).error(new SwitchbackError('USAGE', { problem }))
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
