// Promises: the pages and parts of pages that are made from the code: the error catalogue, the configuration, the commands' help, the
// control schema's tables, the encodings on DynamoDB, where each fault is tried. `npm run docs` writes them; test/docs fails when one of them is stale.
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { Command } from 'commander'
import { GATEWAY_LIMITS } from '../src/app/load-config.ts'
import { COMMANDS } from '../src/cli/commands.ts'
import { AREAS } from '../src/model/error-catalogue.ts'
import type { ErrorEntry } from '../src/model/errors.ts'
import { UPGRADES } from '../src/store/schema-tables.ts'
import { faultRows, faultTable } from './fault-rows.ts'

export const ROOT = resolve(fileURLToPath(import.meta.url), '../..')

export interface GeneratedPage {
  /** From the project's root. */
  readonly path: string
  readonly text: string
}

/** Every generated page as it should be. Parts lie between markers in pages that are otherwise written by hand. */
export async function generatedPages(): Promise<GeneratedPage[]> {
  const pages = new Map([
    ['docs/reference/errors.md', errorsPage()],
    ['docs/internals/control-schema.md', controlSchemaPage()],
  ])
  const lay = (path: string, part: string, text: string) =>
    pages.set(path, replacePart(pages.get(path) ?? read(path), { path, part, text }))
  lay('docs/reference/config.md', 'limits', limitsTable())
  lay('docs/reference/config.md', 'types', configTypes())
  lay('docs/reference/targets.md', 'encodings', encodings())
  lay(
    'docs/internals/proof.md',
    'rows',
    faultTable(faultRows(read('docs/internals/faults.md')), (file) => read(`test/${file}`)),
  )
  for (const make of COMMANDS.values()) {
    const command = await make()
    lay(`docs/operating/${command.name()}.md`, 'help', help(command))
  }
  return [...pages].map(([path, text]) => ({ path, text }))
}

interface Part {
  readonly path: string
  readonly part: string
  readonly text: string
}

function replacePart(page: string, { path, part, text }: Part): string {
  const [from, to] = [`<!-- generated: ${part} -->\n`, `<!-- end: ${part} -->`]
  const start = page.indexOf(from)
  const end = page.indexOf(to)
  if (start < 0 || end < start) throw new Error(`${path} has no place for the generated part "${part}"`)
  return `${page.slice(0, start + from.length)}${text}${page.slice(end)}`
}

const KINDS: Readonly<Record<ErrorEntry['kind'], string>> = {
  operator: 'something in the environment or the command is to be corrected; the command ends with exit code 2',
  client: 'the SQL client, or whoever gave the value, is told; nothing is wrong with Switchback (a command ends with exit code 2)',
  transient: 'it is tried again with bounded backoff',
  unknown: 'the request may have taken effect, or may yet; read before you try again',
  fenced: 'another owner, leader or lease has taken over; the process steps down by itself',
  lost: 'a position or slot is gone: the sync stops, and a new backfill is needed',
  violation: 'a rule of the move was broken: what it concerns is frozen, and somebody must look',
  bug: 'a mistake of Switchback: please report it',
}

function errorsPage(): string {
  const lines = [
    '# Errors',
    '',
    'Generated from `src/model/error-catalogue.ts` by `npm run docs`; do not edit. Words in braces are filled in when the error is told.',
    'A SQL client sees the SQLSTATE and the message; a command prints code, message and remedy, and `--json` gives all three.',
    '',
    '## Kinds',
    '',
    ...Object.entries(KINDS).map(([kind, meaning]) => `- **${kind}**: ${meaning}.`),
    '',
    'Three more are told by commands alone. `RIGHT_MISSING`: PostgreSQL refused a right to the role (exit code 2). `UNEXPECTED`: an error',
    'that nobody named, shown whole (exit code 1). `OUTPUT_FAILED`: what the command prints could not be written; its work is done.',
  ]
  for (const [area, codes] of Object.entries<Record<string, ErrorEntry>>(AREAS)) {
    lines.push('', `## ${capital(area)}`)
    for (const [code, entry] of Object.entries(codes)) {
      lines.push('', `### ${code}`, '', `${entry.kind}, SQLSTATE ${entry.sqlstate}`, '', `> ${entry.message}`, '', entry.remedy)
    }
  }
  return `${lines.join('\n')}\n`
}

function limitsTable(): string {
  const rows = Object.entries(GATEWAY_LIMITS).map(([name, value]) => `| \`${name}\` | ${value.toLocaleString('en-US')} |`)
  return `| Limit | Default |\n|---|---|\n${rows.join('\n')}\n`
}

function configTypes(): string {
  const source = read('src/model/migration.ts')
  const body = source.slice(source.indexOf('export interface TableConfig'), source.indexOf('/** Types the configuration;'))
  return `\`\`\`ts\n${body.trim()}\n\`\`\`\n`
}

function encodings(): string {
  const lines = read('src/targets/dynamodb/encoding.ts').split('\n')
  const table = lines.filter((line) => line.startsWith('// |')).map((line) => line.slice(3).replace(/ +\|/g, ' |').replace(/\| +/g, '| '))
  const keys = lines.slice(lines.findIndex((line) => line.startsWith('// Keys.')))
  const text = keys
    .slice(
      0,
      keys.findIndex((line) => !line.startsWith('//')),
    )
    .map((line) => line.slice(3))
  return `${rowsJoined(table).join('\n')}\n\n${text.join('\n')}\n`
}

/** A row whose second cell is empty goes on the row before. */
function rowsJoined(table: readonly string[]): string[] {
  const rows: string[] = []
  for (const line of table) {
    const more = /^\| (.*?) \| \|$/.exec(line)?.[1]
    if (more === undefined) rows.push(line)
    else rows.push(rows.pop()!.replace(/^\| (.*?) \|/, `| $1 ${more} |`))
  }
  return rows
}

function controlSchemaPage(): string {
  const sql = UPGRADES.join('\n')
  const comments = new Map([...sql.matchAll(/comment on table (switchback\.\w+) is\s+'((?:[^']|'')*)';/g)].map((m) => [m[1]!, m[2]!]))
  const tables = [...sql.matchAll(/create table (switchback\.\w+) \(\n([\s\S]*?)\n\)/g)]
  const sections = tables.flatMap(([, name, body]) => [
    `## ${name!}`,
    '',
    (comments.get(name!) ?? 'Not described.').replaceAll("''", "'"),
    '',
    '```sql',
    body!.replace(/^ {2}/gm, ''),
    '```',
    '',
  ])
  return `${[
    '# Control schema',
    '',
    'Generated from `src/store/schema-tables.ts` by `npm run docs`; do not edit. `switchback init` installs it in the source database, so',
    'that ownership and the guard are one transaction. It is for reading: nobody but Switchback writes it.',
    '',
    ...sections,
  ]
    .join('\n')
    .trimEnd()}\n`
}

function help(command: Command): string {
  const own = command.commands.length === 0 ? [command] : [...command.commands]
  return own
    .map(
      (one) =>
        `\`\`\`\n${one.configureHelp({ helpWidth: 120 }).helpInformation().trimEnd().replace('Usage: ', 'Usage: switchback ')}\n\`\`\`\n`,
    )
    .join('\n')
}

function read(path: string): string {
  return readFileSync(resolve(ROOT, path), 'utf8')
}

function capital(text: string): string {
  return text.charAt(0).toUpperCase() + text.slice(1)
}

if (process.argv[1] !== undefined && resolve(process.argv[1]) === fileURLToPath(import.meta.url)) {
  for (const { path, text } of await generatedPages()) {
    const file = resolve(ROOT, path)
    const before = existsSync(file) ? readFileSync(file, 'utf8') : null
    if (before === text) continue
    writeFileSync(file, text)
    console.log(`wrote ${path}`)
  }
}
