// Promises: what every command that talks to the move opens: the checked configuration, a control session, the mapping as the live
// catalog has it; closed together.
import type pg from 'pg'
import { SwitchbackError } from '../model/errors.ts'
import type { Mapping } from '../model/mapping.ts'
import type { MigrationConfig } from '../model/migration.ts'
import { readMapping } from '../source/catalog.ts'
import { connectSource } from '../source/connect.ts'
import { controlInstalled } from '../store/schema.ts'
import { controlConnector, openSession, type Session } from '../store/session.ts'
import { loadConfig, sourceUrl } from './load-config.ts'

export interface Workspace {
  readonly config: MigrationConfig
  readonly configFile: string
  readonly url: string
  readonly session: Session
  /** Values as raw text under pinned settings: for rows and the catalog. */
  readonly client: pg.Client
  /** Values as `pg` parses them: for the control schema and the guard. */
  readonly admin: pg.Client
  readonly mapping: Mapping
  close(): Promise<void>
}

/** Throws CONFIG_*, SECRET_MISSING, SOURCE_UNREACHABLE, NOT_INSTALLED. */
export async function openWorkspace(configPath: string | undefined, env: NodeJS.ProcessEnv): Promise<Workspace> {
  const { config, file } = await loadConfig(configPath)
  const url = sourceUrl(config, env)
  const client = await connectSource({ url, applicationName: 'switchback' })
  let admin: pg.Client | null = null
  try {
    admin = await connectAdmin(url)
    if (!(await controlInstalled(admin))) throw new SwitchbackError('NOT_INSTALLED')
    const mapping = await readMapping(client, config)
    const opened = admin
    const session = await openSession({ connect: controlConnector({ connectionString: url }), applicationName: 'switchback command' })
    return {
      config,
      configFile: file,
      url,
      session,
      client,
      admin: opened,
      mapping,
      async close() {
        await Promise.all([session.close(), ...[client, opened].map((one) => one.end().catch(() => undefined))])
      },
    }
  } catch (error) {
    await Promise.all([client, admin].map((one) => one?.end().catch(() => undefined)))
    throw error
  }
}

/** Rows as arrays of raw texts, on a connection with pinned settings. */
export function textQuery(
  client: pg.Client,
): (sql: string, values?: readonly unknown[]) => Promise<readonly (readonly (string | null)[])[]> {
  return async (sql, values = []) => (await client.query<(string | null)[]>({ text: sql, values: [...values], rowMode: 'array' })).rows
}

const ADMIN_TIMEOUT_MS = 60_000

/** For installing and removing: longer than a control session's calls. */
export function connectAdmin(url: string): Promise<pg.Client> {
  return controlConnector({ connectionString: url, queryTimeoutMs: ADMIN_TIMEOUT_MS })('switchback command')
}
