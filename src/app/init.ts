// Promises: `init` in two halves: without a configuration it reads the live schema and writes one; with one it checks whether the move
// can be made at all (preflight) and installs the control schema. Nothing is changed where a blocker was found.
import { generateKeyPairSync } from 'node:crypto'
import { existsSync, rmSync } from 'node:fs'
import { dirname, isAbsolute, resolve } from 'node:path'
import type pg from 'pg'
import { SwitchbackError } from '../model/errors.ts'
import { KEY_TYPES } from '../model/mapping.ts'
import type { MigrationConfig } from '../model/migration.ts'
import { readMapping } from '../source/catalog.ts'
import { connectSource } from '../source/connect.ts'
import type { Finding } from '../source/finding.ts'
import { preflight } from '../source/preflight.ts'
import { installControl } from '../store/schema.ts'
import { CONFIG_FILE, checkUrl, loadConfig, sourceUrl } from './load-config.ts'
import { connectAdmin } from './workspace.ts'
import { writeNewFile } from './write-file.ts'

export interface InitWritten {
  readonly wrote: string
  readonly tables: readonly string[]
}

/** Writes a configuration for the schema as it is. @throws CONFIG_EXISTS, NO_AGGREGATE. */
export async function writeConfig(options: {
  readonly urlEnv: string
  readonly env: NodeJS.ProcessEnv
  readonly migration: string
  readonly path: string | undefined
  readonly root: string | undefined
}): Promise<InitWritten> {
  const file = resolve(options.path ?? CONFIG_FILE)
  if (existsSync(file)) throw new SwitchbackError('CONFIG_EXISTS', { file })
  const url = checkUrl(options.env[options.urlEnv], options.urlEnv)
  const client = await connectSource({ url, applicationName: 'switchback init' })
  try {
    const tables = await proposeTables(client, options.root)
    if (tables.length === 0) throw new SwitchbackError('NO_AGGREGATE', { root: options.root ?? '' })
    writeNewFile(file, configText(options.migration, options.urlEnv, tables), { left: 'Nothing was changed.' })
    return { wrote: file, tables: tables.map(([name, key]) => `${name} by ${key}`) }
  } finally {
    await client.end().catch(() => undefined)
  }
}

export interface InitDone {
  /** Warnings and notes. */
  readonly findings: readonly Finding[]
  readonly tables: readonly string[]
  readonly signingKey: 'made' | 'kept' | 'none'
}

/** Checks, then installs; idempotent. @throws MOVE_BLOCKED, FILE_NOT_WRITTEN: nothing was installed. */
export async function installMove(configPath: string | undefined, env: NodeJS.ProcessEnv): Promise<InitDone> {
  const { config, file } = await loadConfig(configPath)
  const client = await connectSource({ url: sourceUrl(config, env), applicationName: 'switchback init' })
  try {
    const findings = await preflight(client, config)
    const blockers = findings.filter((finding) => finding.severity === 'blocker')
    if (blockers.length > 0) {
      throw new SwitchbackError('MOVE_BLOCKED', { blockers: blockers.map(({ code, message, remedy }) => `[${code}] ${message} ${remedy}`) })
    }
    const mapping = await readMapping(client, config)
    // Before the schema: a disk that takes no key must leave the database as it was.
    const signingKey = makeSigningKey(config, file)
    try {
      const admin = await connectAdmin(sourceUrl(config, env))
      await installControl(admin, { mapping }).finally(() => admin.end())
    } catch (error) {
      if (signingKey === 'made') rmSync(signingKeyPath(config, file)!, { force: true })
      throw error
    }
    return { findings, tables: mapping.tables.map((table) => table.name), signingKey }
  } finally {
    await client.end().catch(() => undefined)
  }
}

export function signingKeyPath(config: MigrationConfig, configFile: string): string | null {
  if (config.signingKeyFile === undefined) return null
  return isAbsolute(config.signingKeyFile) ? config.signingKeyFile : resolve(dirname(configFile), config.signingKeyFile)
}

function makeSigningKey(config: MigrationConfig, configFile: string): InitDone['signingKey'] {
  const path = signingKeyPath(config, configFile)
  if (path === null) return 'none'
  if (existsSync(path)) return 'kept'
  const { privateKey } = generateKeyPairSync('ed25519')
  writeNewFile(path, privateKey.export({ type: 'pkcs8', format: 'pem' }) as string, { mode: 0o600, left: 'Nothing was changed.' })
  return 'made'
}

/**
 * Tables that share a key: a root table with a one-column primary key of a usable type, and those whose primary key contains a column
 * that references it. Without a root named, the one that most tables reference.
 */
async function proposeTables(client: pg.ClientBase, root: string | undefined): Promise<[name: string, key: string][]> {
  const { rows } = await client.query<{ root: string; key: string; members: string }>(
    `with roots as (
       select c.oid, n.nspname || '.' || c.relname as name, a.attname as key
         from pg_class c
         join pg_namespace n on n.oid = c.relnamespace
         join pg_constraint p on p.conrelid = c.oid and p.contype = 'p' and cardinality(p.conkey) = 1
         join pg_attribute a on a.attrelid = c.oid and a.attnum = p.conkey[1]
         join pg_type t on t.oid = a.atttypid
        where c.relkind in ('r', 'p') and not c.relispartition and n.nspname !~ '^(pg_|information_schema$|switchback$)'
          and t.typname = any ($1) and ($2::text is null or n.nspname || '.' || c.relname = $2 or c.relname = $2))
     select r.name as root, r.key,
            coalesce((select json_agg(json_build_array(mn.nspname || '.' || mc.relname, ma.attname) order by mc.relname)
               from pg_constraint f
               join pg_class mc on mc.oid = f.conrelid
               join pg_namespace mn on mn.oid = mc.relnamespace
               join pg_attribute ma on ma.attrelid = mc.oid and ma.attnum = f.conkey[1]
               join pg_constraint mp on mp.conrelid = mc.oid and mp.contype = 'p' and f.conkey[1] = any (mp.conkey)
              where f.confrelid = r.oid and f.contype = 'f' and cardinality(f.conkey) = 1), '[]')::text as members
       from roots r
      order by json_array_length(coalesce((select json_agg(1) from pg_constraint f where f.confrelid = r.oid and f.contype = 'f'), '[]')) desc, r.name
      limit 1`,
    [KEY_TYPES, root ?? null],
  )
  const found = rows[0]
  return found === undefined ? [] : [[found.root, found.key], ...(JSON.parse(found.members) as [string, string][])]
}

function configText(migration: string, urlEnv: string, tables: readonly (readonly [string, string])[]): string {
  return `import { defineMigration } from 'switchback'

// Written by \`switchback init\` from the live schema. All rows of these tables with one value of the partition key are one aggregate:
// the unit that moves. Tables that are not named here stay on PostgreSQL.
export default defineMigration({
  migration: '${migration}',
  source: { urlEnv: '${urlEnv}' },
  // Credentials come from AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY. Leave \`endpoint\` out for DynamoDB itself.
  target: { kind: 'dynamodb', region: 'eu-central-1', tablePrefix: '${migration}_' },
  tables: {
${tables.map(([name, key]) => `    '${name}': { partitionKey: '${key}' },`).join('\n')}
  },
  gateway: { port: 6432 },
  controller: { port: 6433 },
  signingKeyFile: 'switchback.key',
})
`
}
