// Promises: `switchback init`: reads the live schema and writes a configuration; run again, it checks that the move can be made and
// installs the control schema.
import { existsSync } from 'node:fs'
import { resolve } from 'node:path'
import type { Command } from 'commander'
import { installMove, writeConfig } from '../app/init.ts'
import { CONFIG_FILE } from '../app/load-config.ts'
import { type CommandContext, command, handled } from './command.ts'
import type { ExitCode } from './output.ts'

interface Flags {
  readonly urlEnv: string
  readonly name: string
  readonly root?: string
}

export function initCommand(): Command {
  const cmd = command('init', 'write a configuration from the live schema; with one, check it and install the control schema')
    .option('--url-env <variable>', 'environment variable with the connection string', 'DATABASE_URL')
    .option('--name <migration>', 'names the move', 'move')
    .option('--root <table>', 'the table whose primary key is the aggregate key; by default the most referenced one')
  return handled(cmd, async (context: CommandContext, flags: Flags): Promise<ExitCode> => {
    if (!existsSync(resolve(context.configPath ?? CONFIG_FILE))) return write(context, flags)
    return install(context)
  })
}

async function write({ out, configPath, env }: CommandContext, flags: Flags): Promise<ExitCode> {
  const { wrote, tables } = await writeConfig({ urlEnv: flags.urlEnv, env, migration: flags.name, path: configPath, root: flags.root })
  out.line(`Wrote ${wrote}:`)
  for (const table of tables) out.line(`  ${table}`)
  out.line('Read it, correct it, then run `switchback init` again: it checks the move and installs the control schema.')
  out.result({ ok: true, wrote, tables })
  return 0
}

async function install({ out, configPath, env }: CommandContext): Promise<ExitCode> {
  const done = await installMove(configPath, env)
  for (const { severity, code, message, remedy } of done.findings) out.line(`${severity} ${code}: ${message}\n  ${remedy}`)
  out.line(`The control schema \`switchback\` is installed for ${done.tables.join(', ')}.`)
  if (done.signingKey === 'made') out.line('The key that signs certificates was made (mode 0600): keep it, and keep it secret.')
  out.line('Next: `switchback gateway` and `switchback controller`, then `switchback backfill`.')
  out.result({ ok: true, installed: true, ...done })
  return 0
}
