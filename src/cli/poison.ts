// Promises: `switchback poison`: which keys are halted since PostgreSQL refused what the target had committed, and why; and, the cause
// mended, the order to try again. There is no way to skip one: what was acknowledged is applied, in order (INV-6, INV-11).
import { Command } from 'commander'
import { retryNow } from '../app/retry-poison.ts'
import { openWorkspace } from '../app/workspace.ts'
import { SwitchbackError } from '../model/errors.ts'
import { canonicalKey } from '../model/key.ts'
import { listPoison, type PoisonEntry } from '../store/poison.ts'
import { type CommandContext, command, handled } from './command.ts'
import type { ExitCode } from './output.ts'

const LISTED_MAX = 1_000
const TOLD_MAX = 20

export function poisonCommand(): Command {
  const poison = new Command('poison').description('keys that are halted, since PostgreSQL refused what the target had committed')
  poison.addCommand(handled(command('list', 'each halted key with the reason; what `switchback poison` does'), list), { isDefault: true })
  const again = command('retry', 'try again, once the cause is mended in PostgreSQL; the keys go on in order, nothing is skipped')
    .argument('[key]', 'a halted key, as listed')
    .option('--all', 'every halted key')
  poison.addCommand(handled(again, retry))
  return poison
}

async function list(context: CommandContext): Promise<ExitCode> {
  const workspace = await openWorkspace(context.configPath, context.env)
  try {
    const { total, entries } = await listPoison(workspace.session, LISTED_MAX)
    for (const entry of entries.slice(0, TOLD_MAX)) context.out.line(tell(entry))
    if (total > TOLD_MAX) context.out.line(`... and ${total - Math.min(total, TOLD_MAX)} more; --json lists up to ${LISTED_MAX}.`)
    context.out.line(
      total === 0
        ? 'No key is halted.'
        : `${total} ${total === 1 ? 'key is' : 'keys are'} halted; nothing of them is dropped. Mend the cause in PostgreSQL, then \`switchback poison retry KEY\`, or \`--all\`.`,
    )
    context.out.result({ ok: true, total, poison: entries })
    return 0
  } finally {
    await workspace.close()
  }
}

async function retry(context: CommandContext, text: string | undefined, flags: { readonly all?: boolean }): Promise<ExitCode> {
  if ((text === undefined) === (flags.all !== true)) throw new SwitchbackError('USAGE', { problem: 'name a key, or give --all' })
  const workspace = await openWorkspace(context.configPath, context.env)
  try {
    const keys = text === undefined ? null : [canonicalKey(workspace.mapping.keyType, text)]
    const { applied, refused, pending, waitedMs } = await retryNow(workspace.session, keys, context.signal)
    for (const key of applied.slice(0, TOLD_MAX)) context.out.line(`Key ${key}: applied to PostgreSQL; it goes on.`)
    if (applied.length > TOLD_MAX) context.out.line(`... and ${applied.length - TOLD_MAX} more.`)
    if (refused.length > 0) {
      const refusals = refused.slice(0, TOLD_MAX).map(({ key, sqlstate, message }) => `key ${key} (${sqlstate}: ${message})`)
      throw new SwitchbackError('POISON_STAYS', { refusals })
    }
    if (pending.length > 0) throw new SwitchbackError('POISON_PENDING', { keys: pending.slice(0, TOLD_MAX), waitedMs })
    context.out.result({ ok: true, applied })
    return 0
  } finally {
    await workspace.close()
  }
}

function tell({ key, slot, version, sqlstate, message, at, retrying }: PoisonEntry): string {
  const standing = retrying ? 'being tried again' : `halted since ${at}`
  return `Key ${key} (slot ${slot}), ${standing}: PostgreSQL refused its version ${version} with ${sqlstate}: ${message}`
}
