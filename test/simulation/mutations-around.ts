// Promises: planted bugs in what surrounds the protocol's core: rows that come, go and change their key, what a statement is told,
// read-only, named standbys, buckets of outboxes, several processes under one name.
import { type Mutation, one } from './mutation.ts'

const ROWS: readonly Mutation[] = [
  one(
    'a delete leaves no tombstone',
    'Commit protocol 3: deletes as tombstones, kept until no older stamp can arrive',
    'test/commit/fake-store.ts',
    '    const values = put.values === null ? null :',
    '    if (put.values === null) return void this.rows.delete(id)\n    const values = put.values === null ? null :',
  ),
  one(
    'a key change leaves the old row',
    'Forward sync: key change = delete + insert',
    'src/sync/fold.ts',
    '    rows.set(old.id, { ...old, values: null })\n',
    '',
  ),
  one(
    'the guard looks at the new key alone',
    'Guard: a row trigger that computes the slots of OLD and NEW',
    'test/simulation/postgres.ts',
    'for (const key of [to, from]) await this.#guard',
    'for (const key of [to]) await this.#guard',
  ),
  one(
    'the guard looks at the old key alone',
    'Guard: a row trigger that computes the slots of OLD and NEW',
    'test/simulation/postgres.ts',
    'for (const key of [to, from]) await this.#guard',
    'for (const key of [from]) await this.#guard',
  ),
  {
    name: 'a statement that was tried again tells what its first try saw',
    rule: 'CAS conflict: what is answered was read, or written, within the call',
    edits: [
      {
        file: 'src/commit/autocommit.ts',
        find: '  let fresh = false\n',
        put: '  let fresh = false\n  let first: StatementResult | null = null\n',
      },
      {
        file: 'src/commit/autocommit.ts',
        find: '    const outcome = await tryCommit(',
        put: '    first ??= result\n    const outcome = await tryCommit(',
      },
      {
        file: 'src/commit/autocommit.ts',
        find: '      return result\n    }\n    if (outcome',
        put: '      return first\n    }\n    if (outcome',
      },
    ],
  },
  one(
    'what is remembered proves that no row is there',
    'Commit protocol 1: the compare-and-set says whether what is remembered still stands',
    'src/commit/autocommit.ts',
    '    return result.changes.length > 0 ? result : null\n',
    '    return result\n',
  ),
  one(
    'what is remembered proves a duplicate',
    'Commit protocol 1: the compare-and-set says whether what is remembered still stands',
    'src/commit/autocommit.ts',
    '  } catch {\n    return null\n  }',
    '  } catch (error) {\n    throw error\n  }',
  ),
]

const READ_ONLY: readonly Mutation[] = [
  one(
    'a gateway takes writes where it is read-only',
    'Read-only: gateways and guard answer writes with 25006',
    'src/gateway/fence-gate.ts',
    "    if (facts.writes && row.readOnly) return refuse(new SwitchbackError('SLOT_READ_ONLY'))\n    if (row.phase",
    '    if (row.phase',
  ),
  one(
    'read-only waits for no writer',
    'Read-only: in force when, for source-owned slots, the guard’s wait set has ended',
    'src/app/read-only.ts',
    '  if (!readOnly) return { epoch, leases }',
    '  if (epoch > 0) return { epoch, leases }',
  ),
  one(
    'the guard takes writes where it is read-only',
    'Guard: read-only is 25006',
    'test/simulation/postgres.ts',
    "    if (readOnly) throw new PgError('25006', 'read-only')\n",
    '',
  ),
  one(
    'read-only does not wait for what began before it',
    'Read-only: in force when every lease has acked or is over',
    'src/gateway/fence-gate.ts',
    '(row.readOnly && !before.readOnly)\n',
    'false\n',
  ),
  one(
    'a flip forgets read-only',
    'Read-only: kept by commit and cancel',
    'test/simulation/control.ts',
    "postgres.own(slot, { owner: flip.to, phase: held ? 'fenced' : 'steady',",
    "postgres.own(slot, { readOnly: false, owner: flip.to, phase: held ? 'fenced' : 'steady',",
  ),
]

const STANDBYS: readonly Mutation[] = [
  one(
    'a flip routes before its commit is on the standby',
    'Durable control: a flip routes only when its LSN is flushed on each named standby',
    'src/flip/steps.ts',
    '    if (run.held) {\n      const behind',
    '    if (run.flip.epoch < 0) {\n      const behind',
  ),
  one(
    'a commit is not held for the standby',
    'Durable control: a flip routes only when its LSN is flushed on each named standby',
    'src/flip/steps.ts',
    '    run.held = parts.standbys.any()\n',
    '    run.held = false\n',
  ),
  one(
    'a fence counts before it is on the standby',
    'Durable control: a fence counts only when its LSN is flushed on each named standby',
    'src/flip/steps.ts',
    'awaitWriters(parts, run.leases, signal), parts.standbys.awaitFlushed(signal)])',
    'awaitWriters(parts, run.leases, signal), Promise.resolve([])])',
  ),
  one(
    'a parking counts before it is on the standby',
    'Durable control: a fence counts only when its LSN is flushed on each named standby',
    'src/flip/steps.ts',
    '      parts.drain(run.flip.slots, run.leases, signal),\n      parts.standbys.awaitFlushed(signal),',
    '      parts.drain(run.flip.slots, run.leases, signal),\n      Promise.resolve([]),',
  ),
  one(
    'a bucket goes before its position is on the standby',
    'Durable control: an outbox bucket is deleted only when its LSN is flushed on each named standby',
    'src/sync/reverse-outboxes.ts',
    'const flushed = async () => ((await options.awaitFlushed?.(signal)) ?? []).length === 0',
    'const flushed = async () => true',
  ),
  one(
    'a standby that is not listed is not waited for',
    'INV-10: absent is not there',
    'src/model/standby.ts',
    'return own.length === 0 || !holdsAll(own, lsn)',
    'return !holdsAll(own, lsn)',
  ),
  {
    name: 'a standby is taken back before it holds everything',
    rule: 'Durable control: one that is struck off is taken back when it holds everything again',
    edits: [
      {
        file: 'src/model/standby.ts',
        find: 'if (rows.length > 0 && holdsAll(rows, seen.flushedHere)) back.push(name)',
        put: 'if (rows.length > 0) back.push(name)',
      },
      {
        file: 'src/app/standby-watch.ts',
        find: 'if ((await lacking({ names: [name], struck }, TAKEN_BACK_WITHIN_MS)).length > 0) {',
        put: 'if (names.length === 0) {',
      },
    ],
  },
  {
    name: 'a commit is held only for standbys that are waited for when its flip begins',
    rule: 'Durable control: one that is taken back while a flip is under way has to have its commit before it routes',
    edits: [
      {
        file: 'src/app/standby-watch.ts',
        find: '    any: () => true,\n',
        put: '    any: () => names.some((name) => !struck.has(name)),\n',
      },
      // Asked when it commits it would not be found wrong: the leader's session takes nobody back between that and the commit.
      { file: 'src/flip/steps.ts', find: '    run.held = parts.standbys.any()\n', put: '' },
      { file: 'src/flip/run-flip.ts', find: '{ held: false, ended: signal }', put: '{ held: parts.standbys.any(), ended: signal }' },
    ],
  },
]

const OUTBOXES: readonly Mutation[] = [
  one(
    'a bucket goes that is not all settled',
    'Reverse sync: a bucket is deleted whole once the position is past it',
    'src/sync/outbox-track.ts',
    ' ? Math.ceil(saved.sequence / entriesPerBucket) : whole',
    ' ? Math.ceil(saved.sequence / entriesPerBucket) : whole + 1',
  ),
  one(
    'a bucket goes before its position is durable',
    'Reverse sync: a bucket is deleted whole once the position is past it, durably',
    'src/sync/reverse-outboxes.ts',
    '  #bucketsPast({ saved, last }: Track): number {\n    return bucketsPast(saved, last,',
    '  #bucketsPast(track: Track): number {\n    return bucketsPast({ sequence: track.position(), final: track.final }, track.last,',
  ),
  one(
    'an outbox is read from its beginning',
    'An outbox is read from a durable position on, never across a deleted bucket',
    'src/sync/reverse-outboxes.ts',
    '    let after = track.knownUpTo()\n',
    '    let after = 0\n',
  ),
  one(
    'more entries are under way than a bucket holds',
    'Of one outbox fewer entries are under way than a bucket holds: an empty bucket is the end',
    'src/commit/outbox-writer.ts',
    '      if (at.underWay >= entriesInFlightMax) return null\n',
    '',
  ),
]

const NAMES: readonly Mutation[] = [
  one(
    'one ack counts for all of a gateway’s name',
    'Leases: acks belong to a lease id, never to a gateway’s name',
    'src/flip/lease-watch.ts',
    '  for (const row of rows) {',
    '  for (const row of new Map(rows.map((one) => [one.gateway, one])).values()) {',
  ),
  one(
    'one outbox counts for all of a gateway’s name',
    'Leases: outboxes belong to a lease id, never to a gateway’s name',
    'src/sync/reverse-drain.ts',
    '    for (const lease of leases) {',
    '    for (const lease of new Map(leases.map((one) => [one.gateway, one])).values()) {',
  ),
]

export const AROUND: readonly Mutation[] = [...ROWS, ...READ_ONLY, ...STANDBYS, ...OUTBOXES, ...NAMES]
