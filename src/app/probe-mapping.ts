// Promises: the probe aggregate's place in the data path: a table of Switchback's own that the target and the reverse applier know
// beside the user's, and a slot that no ownership row has. So nothing that walks ownership (canary arithmetic, flips, read-only,
// status, finalize, the gateways' view) ever meets it.
import type { SlotId } from '../model/ids.ts'
import { HASH_SLOTS, SLOT_GROUPS, SLOTS_PER_GROUP } from '../model/key.ts'
import type { ColumnMapping, Mapping, TableMapping } from '../model/mapping.ts'
import { type Ownership, RoutingView } from '../model/ownership.ts'

/** Pins are numbered from 4096 on, one after the other: they never come so far. */
export const PROBE_SLOT: SlotId = 2 ** 30
/** The slot group after the service's own. */
export const PROBE_GROUP = SLOT_GROUPS
/** Stamps a leader may give the probe: at one probe in two seconds, six hundred days. */
const STAMPS_PER_TENURE = 10_000_000n

const PLAIN = { typmod: -1, notNull: true, defaultExpr: null, identity: null, generatedExpr: null }
const COLUMNS: readonly ColumnMapping[] = [
  { ...PLAIN, name: 'id', type: 'text', typeOid: 25 },
  { ...PLAIN, name: 'n', type: 'int8', typeOid: 20 },
]

export function probeTable(migration: string): TableMapping {
  return {
    name: 'switchback.probe',
    schema: 'switchback',
    table: 'probe',
    relationOid: 0, // never published, guarded or planned: its number is asked for by nobody
    primaryKeyName: 'probe_pkey',
    columns: COLUMNS,
    partition: 0,
    clustering: [],
    checks: [],
    foreignKeys: [],
    uniqueKeys: [],
    targetName: `switchback_${migration}_probe`,
  }
}

/** The probe's table alone. */
export function probeMapping(mapping: Mapping): Mapping {
  return { migration: mapping.migration, keyType: 'text', tables: [probeTable(mapping.migration)] }
}

export function withProbe(mapping: Mapping): Mapping {
  return { ...mapping, tables: [...mapping.tables, probeTable(mapping.migration)] }
}

/** Each leader's probe is a tenure of its own: what an older leader may still send is old (INV-4). */
export function probeOwnership(token: number): Ownership {
  return {
    slot: PROBE_SLOT,
    owner: 'target',
    phase: 'steady',
    readOnly: false,
    epoch: 0,
    tenure: token,
    base: BigInt(token) * STAMPS_PER_TENURE,
  }
}

/** The view as the reverse sync needs it: the probe's key is a slot of its own, in a group of its own. */
export function viewWithProbe(view: RoutingView, probe: { readonly key: string; readonly token: number }): RoutingView {
  return new RoutingView({
    epoch: view.epoch,
    bindingEpoch: view.bindingEpoch,
    rows: [...view.rows(), probeOwnership(probe.token)],
    pins: [...view.pins(), { key: probe.key, slot: PROBE_SLOT, parent: HASH_SLOTS + (PROBE_GROUP - SLOT_GROUPS) * SLOTS_PER_GROUP }],
  })
}
