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
  return connectWorkspace({ config, configFile: file, url: sourceUrl(config, env) })
}

/** The same move over new connections: those of a workspace that has lived through a crash of PostgreSQL are dead. */
export function reopenWorkspace({ config, configFile, url }: Workspace): Promise<Workspace> {
  return connectWorkspace({ config, configFile, url })
}

async function connectWorkspace(place: Pick<Workspace, 'config' | 'configFile' | 'url'>): Promise<Workspace> {
  const opened: (pg.Client | Session)[] = []
  const close = async () => {
    await Promise.all(opened.map((one) => ('end' in one ? one.end().catch(() => undefined) : one.close())))
  }
  try {
    const client = await connectSource({ url: place.url, applicationName: 'switchback' })
    opened.push(client)
    const admin = await connectAdmin(place.url)
    opened.push(admin)
    if (!(await controlInstalled(admin))) throw new SwitchbackError('NOT_INSTALLED')
    const mapping = await readMapping(client, place.config)
    const session = await openSession({ connect: controlConnector({ connectionString: place.url }), applicationName: 'switchback command' })
    opened.push(session)
    return { ...place, session, client, admin, mapping, close }
  } catch (error) {
    await close()
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
