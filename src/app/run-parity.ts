// Promises: parity from the command's side: both readers, positions to settle by, the certificate.
import { readFileSync } from 'node:fs'
import { systemClock } from '../lib/clock.ts'
import { SwitchbackError } from '../model/errors.ts'
import { versionIn } from '../model/head.ts'
import { type Epoch, formatLsn, type Owner, parseLsn } from '../model/ids.ts'
import type { RoutingView } from '../model/ownership.ts'
import type { Settling } from '../model/parity.ts'
import type { RowKey } from '../model/row.ts'
import type { Source } from '../model/source.ts'
import type { Target } from '../model/target.ts'
import { type Certificate, issueCertificate } from '../parity/certificate.ts'
import { compareStores, type ParityProgress, type ParityReport } from '../parity/compare.ts'
import { type Difference, type SettleParts, settleRows } from '../parity/settle.ts'
import { targetReader } from '../parity/target-reader.ts'
import { estimatedRows } from '../source/key-ranges.ts'
import { checkDigestFunction, sourceParityReader } from '../source/parity-reader.ts'
import { readView } from '../store/read-view.ts'
import { readStanding } from './backfill-standing.ts'
import { signingKeyPath } from './init.ts'
import { slotNameOf } from './names.ts'
import { textQuery, type Workspace } from './workspace.ts'

export interface ParityRunOptions {
  readonly workspace: Workspace
  readonly source: Source
  readonly target: Target
  readonly share: number
  /** Which part a share below 1 takes; by the clock unless given. */
  readonly offset?: number
  readonly certificate: boolean
  readonly onProgress: (progress: ParityProgress) => void
  readonly signal: AbortSignal
}

const SEGMENTS = 4
const LOOK_MS = 20
/** A position that does not move for so long is not going to. */
const SETTLE_DEADLINE_MS = 60_000

export async function parityNow(
  options: ParityRunOptions,
): Promise<{ readonly report: ParityReport; readonly certificate: Certificate | null }> {
  const { workspace, signal } = options
  await refuseUnlessWhole(workspace)
  const parts = await settleParts(workspace, options.target)
  const report = await compareStores(
    {
      mapping: workspace.mapping,
      ...parts,
      estimatedRows: (table) => estimatedRows(workspace.client, table),
      onProgress: options.onProgress,
    },
    { share: options.share, offset: options.offset ?? Math.floor(systemClock.nowMs() / 1000) },
    signal,
  )
  // Lost meanwhile: what was seen equal may have been so by chance.
  await refuseUnlessWhole(workspace)
  return { report, certificate: options.certificate ? await certify(options, report, parts.epoch()) : null }
}

/** Of these rows, those that differ once both sides have passed the same position. */
export async function settleNow(
  { workspace, target }: Pick<ParityRunOptions, 'workspace' | 'target'>,
  keys: readonly RowKey[],
  signal: AbortSignal,
): Promise<readonly Difference[]> {
  await refuseUnlessWhole(workspace)
  const parts = await settleParts(workspace, target)
  const found: Difference[] = []
  for (const table of workspace.mapping.tables) {
    const mine = keys.filter((key) => key.table === table.name)
    if (mine.length > 0) found.push(...(await settleRows(parts, table, mine, signal)).differences)
  }
  await refuseUnlessWhole(workspace)
  return found
}

async function settleParts(workspace: Workspace, target: Target): Promise<SettleParts & { epoch(): Epoch }> {
  const query = textQuery(workspace.client)
  await checkDigestFunction(query)
  let view = await readView(workspace.session)
  return {
    source: sourceParityReader(query),
    target: targetReader(target, SEGMENTS),
    settling: positions(workspace, target, async () => {
      view = await readView(workspace.session)
      return view
    }),
    ownerOf: (key): Owner => view.ownership(view.slotOf(key))?.owner ?? 'source',
    epoch: () => view.epoch,
  }
}

/** @throws PARITY_TOO_EARLY, PARITY_INVALID */
async function refuseUnlessWhole({ session, config }: Workspace): Promise<void> {
  const { standing } = await readStanding(session, slotNameOf(config.migration))
  if (standing.kind === 'none' || standing.kind === 'open') throw new SwitchbackError('PARITY_TOO_EARLY')
  if (standing.kind === 'stopped') throw new SwitchbackError('PARITY_INVALID', { because: standing.because })
}

function positions(workspace: Workspace, target: Target, refreshView: () => Promise<RoutingView>): Settling {
  const until = async (what: string, holds: () => Promise<boolean>, signal: AbortSignal) => {
    const deadlineMs = systemClock.monotonicMs() + SETTLE_DEADLINE_MS
    while (!signal.aborted && !(await holds())) {
      if (systemClock.monotonicMs() > deadlineMs) throw new SwitchbackError('PARITY_STUCK', { what, waitedMs: SETTLE_DEADLINE_MS })
      await systemClock.sleep(LOOK_MS, signal)
    }
  }
  const slot = slotNameOf(workspace.config.migration)
  return {
    async sourceOnTarget(signal) {
      const [now] = await workspace.session.query('select pg_current_wal_insert_lsn() as lsn')
      const lsn = parseLsn(now!['lsn']!)
      // Something after it must commit, or an idle slot would be waited for until its next keepalive.
      await workspace.session.query(`select pg_logical_emit_message(true, 'switchback', 'heartbeat')`)
      await until(
        'the forward sync',
        async () => {
          const [row] = await workspace.session.query('select confirmed_flush_lsn as lsn from pg_replication_slots where slot_name = $1', [
            slot,
          ])
          return row?.['lsn'] != null && parseLsn(row['lsn']) >= lsn
        },
        signal,
      )
      await refreshView()
    },
    async targetOnSource(keys, signal) {
      const view = await refreshView()
      const wanted = await Promise.all(
        keys.map(async (key) => {
          const row = view.ownership(view.slotOf(key))
          const version = row?.owner === 'target' ? versionIn(await target.readHead(key), row.tenure) : 0
          return { key, tenure: row?.tenure ?? 0, version }
        }),
      )
      const due = wanted.filter(({ version }) => version > 0)
      await until(
        'the reverse sync',
        async () => {
          const rows = await workspace.session.query(
            `select count(*) as missing from unnest($1::text[], $2::bigint[], $3::bigint[]) as due(key, tenure, version)
            where not exists (select 1 from switchback.applied a where a.key = due.key and (a.tenure > due.tenure or a.tenure = due.tenure and a.version >= due.version))`,
            [due.map((d) => d.key), due.map((d) => d.tenure), due.map((d) => d.version)],
          )
          return Number(rows[0]!['missing']) === 0
        },
        signal,
      )
    },
  }
}

async function certify({ workspace, source }: ParityRunOptions, report: ParityReport, epoch: Epoch): Promise<Certificate> {
  const path = signingKeyPath(workspace.config, workspace.configFile)
  if (path === null) throw new SwitchbackError('SIGNING_KEY_MISSING', { file: 'signingKeyFile of the configuration' })
  let key: string
  try {
    key = readFileSync(path, 'utf8')
  } catch (error) {
    throw new SwitchbackError('SIGNING_KEY_MISSING', { file: path }, error)
  }
  const { systemIdentifier, timeline } = await source.systemIdentifier()
  const facts = {
    migration: workspace.config.migration,
    systemIdentifier,
    timeline,
    epoch,
    lsn: formatLsn(await source.currentWalLsn()),
    issuedAt: new Date(systemClock.nowMs()).toISOString(),
  }
  return issueCertificate(report, facts, key)
}
