// Promises: everything that Switchback made goes, in PostgreSQL and on the target, and is shown to be gone. Needs all slots on the
// source and nobody serving.
import { SwitchbackError } from '../model/errors.ts'
import type { Target } from '../model/target.ts'
import { dropApplierRole } from '../source/applier-role.ts'
import { removeGuard } from '../source/guard.ts'
import { removeControl } from '../store/schema.ts'
import { applierRoleOf, originNameOf, slotNameOf } from './names.ts'
import { openSource } from './open-parts.ts'
import { probeMapping } from './probe-mapping.ts'
import type { Workspace } from './workspace.ts'

export async function uninstall(workspace: Workspace, target: Target, what: { readonly targetRows: boolean }): Promise<readonly string[]> {
  const checks = await inTheWay(workspace)
  if (checks.length > 0) throw new SwitchbackError('UNINSTALL_NOT_READY', { checks })
  const { client, admin, mapping, config } = workspace
  await openSource(workspace).dropSlot()
  await removeGuard(admin, mapping)
  await workspace.session.close()
  await removeControl(admin)
  await dropApplierRole(client, { role: applierRoleOf(config.migration), originName: originNameOf(config.migration) })
  await target.remove(probeMapping(mapping), { rows: true })
  await target.remove(mapping, { rows: what.targetRows })
  const left = await leftovers(workspace)
  if (left.length > 0) throw new SwitchbackError('UNINSTALL_INCOMPLETE', { left })
  return [
    'replication slot and publication',
    'guard',
    'control schema',
    'applier role and origin',
    'heads and outboxes on the target',
    ...(what.targetRows ? ['the mapped tables on the target'] : []),
  ]
}

async function inTheWay({ session }: Workspace): Promise<string[]> {
  const [slots] = await session.query(`select count(*) as n from switchback.ownership where owner <> 'source' or phase <> 'steady'`)
  const leases = await session.query(`select gateway from switchback.lease l where not over and exists (
      select 1 from pg_stat_activity a where a.datname = current_database() and a.application_name = 'switchback gateway')`)
  const leaders = await session.query(
    `select pid from pg_stat_activity where datname = current_database() and application_name like 'switchback leader%'`,
  )
  return [
    ...(Number(slots!['n']) > 0 ? [`${String(slots!['n'])} slots are not steady on PostgreSQL: run \`switchback rollback\`.`] : []),
    ...(leases.length > 0
      ? [
          `These gateways still serve: ${leases.map((row) => row['gateway']).join(', ')}. Point the application at PostgreSQL and stop them.`,
        ]
      : []),
    ...(leaders.length > 0 ? ['A controller still runs: stop it.'] : []),
  ]
}

async function leftovers({ client, config }: Workspace): Promise<string[]> {
  const { rows } = await client.query<{ what: string }>(
    `select 'slot ' || slot_name as what from pg_replication_slots where slot_name = $1
     union all select 'publication ' || pubname from pg_publication where pubname = $1
     union all select 'schema ' || nspname from pg_namespace where nspname = 'switchback'
     union all select 'role ' || rolname from pg_roles where rolname = $2
     union all select 'origin ' || roname from pg_replication_origin where roname = $3
     union all select 'trigger ' || tgname || ' on ' || tgrelid::regclass from pg_trigger where tgname like '~switchback%'
     union all select 'event trigger ' || evtname from pg_event_trigger where evtname like 'switchback%'`,
    [slotNameOf(config.migration), applierRoleOf(config.migration), originNameOf(config.migration)],
  )
  return rows.map((row) => row.what)
}
