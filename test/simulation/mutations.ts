// Promises: the protocol bugs that the simulator must catch: each takes out, or turns round, one rule of protocols.md. Where the rule is
// SQL, its place in the model of PostgreSQL is patched.

import { type Mutation, one } from './mutation.ts'
import { AROUND } from './mutations-around.ts'

const COMMIT: readonly Mutation[] = [
  one(
    'rows before the outbox is durable',
    'Commit protocol 3: when both are there, apply the rows',
    'src/commit/try-commit.ts',
    "if (cas.kind === 'over' || !(await appending)) return over(one)",
    "if (cas.kind === 'over') return over(one)\n    void appending",
  ),
  one('skip the help', 'Finished: none there, help', 'src/commit/finish.ts', "  return 'look'\n", "  return 'none'\n"),
  one(
    'help without an entry',
    'Finished: help is an entry in the helper’s own outbox, then the rows',
    'src/commit/finish.ts',
    'none: { entry: true, rows: true },',
    'none: { entry: false, rows: true },',
  ),
  one(
    'help what is taken for finished',
    'Finished: some there, put the rest',
    'src/commit/finish.ts',
    'some: { entry: false, rows: true },',
    'some: { entry: false, rows: false },',
  ),
  one(
    'an old head is helped after a flip',
    'A late compare-and-set leaves a head of an old tenure, which nobody helps',
    'src/commit/finish.ts',
    "if (head === null || head.tenure !== tenure || head.version <= finishedUpTo) return 'none'",
    "if (head === null || (head.tenure === tenure && head.version <= finishedUpTo)) return 'none'",
  ),
  one(
    'a head of an older tenure keeps its version',
    'a head of an older tenure counts as version 0',
    'src/model/head.ts',
    'return head !== null && head.tenure === tenure ? head.version : 0',
    'return head !== null ? head.version : 0',
  ),
  one(
    'a lost compare-and-set counts as won',
    'the head is the commit point',
    'src/commit/head-cas.ts',
    "return observed.txnId === next.txnId ? 'won' : 'lost'\n  const named",
    "return 'won'\n  const named",
  ),
  one(
    'a timeout counts as a refusal',
    'INV-9; CAS timed out: read the head',
    'src/commit/head-cas.ts',
    'if (!noEffect) uncertain = true',
    "if (!noEffect) return { kind: 'refused', error }",
  ),
  one(
    'an unknown outcome is told as a failure',
    'INV-9',
    'src/commit/autocommit.ts',
    "throw new SwitchbackError('OUTCOME_UNKNOWN', { reason: outcome.because })",
    "throw new SwitchbackError('CONTENTION_DEADLINE', { key: address.key, deadlineMs: 0 })",
  ),
  one(
    'a lost try is not told void',
    'No entry stays undecided: it tells the applier void',
    'src/commit/try-commit.ts',
    "      settle(ctx, one, 'void')\n      return false",
    "      settle(ctx, one, 'committed')\n      return false",
  ),
  one(
    'marked rows are shown at once',
    'Reads: a marked row is shown only when its transaction is known to be finished',
    'src/commit/reads.ts',
    'if (row?.mark) await settleMarked',
    'if (row?.mark && lease === null) await settleMarked',
  ),
  one(
    'several rows are read without looking at the head again',
    'Reads: taken if the head has the same, finished version before and after',
    'src/commit/reads.ts',
    'if (versionIn(head, address.tenure) === known && loaded.newest <= stampOf(address, known)) return',
    'if (known >= 0) return',
  ),
  one(
    'a snapshot of several rows ignores later stamps',
    'Reads: one head read in parallel is enough where no row carries a later stamp',
    'src/commit/reads.ts',
    ' && loaded.newest <= stampOf(address, known)) return',
    ') return',
  ),
  one(
    'a write builds on rows of an unfinished head',
    'Whoever meets a head whose transaction is not known to be finished looks at the redo’s rows',
    'src/commit/finish.ts',
    '  return there === rows.length ? ',
    "  return there > 0 || stamp > 0n ? 'all' : there === rows.length ? ",
  ),
]

const LEASES: readonly Mutation[] = [
  one(
    'a lease that only a timer ends',
    'INV-8',
    'src/gateway/lease-holder.ts',
    'if (!this.#over && this.leftMs() <= 0) this.#over = true',
    '',
  ),
  one(
    'a lease that counts from the reply',
    'Leases: the holder counts from before it sent the renewal',
    'src/gateway/lease-holder.ts',
    'if (!lease.extend(sent)) {',
    'if (!lease.extend(this.#moment())) {',
  ),
  {
    name: 'a renewal after the lapse revives the lease',
    rule: 'Leases: a renewal answered after a lapse revives nothing',
    edits: [
      {
        file: 'src/gateway/lease-holder.ts',
        find: '    if (!this.holds()) return false\n    this.#sent = sent',
        put: '    this.#over = false\n    this.#sent = { monotonicMs: this.#clock.monotonicMs(), wallMs: this.#clock.nowMs() }',
      },
      {
        file: 'src/gateway/lease-holder.ts',
        find: '    this.#renewed(renewal)\n  }\n\n  #renewed',
        put: '    this.#lease = lease\n    this.#renewed(renewal)\n  }\n\n  #renewed',
      },
    ],
  },
  one(
    'renewal in one step',
    'Leases: first the lease row, then the view by a later snapshot',
    'test/simulation/control.ts',
    `        postgres.onLease<Renewal | 'over'>(backend, lease, async (row) => {
          if (row.over) return { value: 'over', change: null }
          // The lease row first, then the view by a later snapshot.
          await postgres.step(backend)
          const view = viewOf(postgres)`,
    `        postgres.onLease<Renewal | 'over'>(backend, lease, async (row) => {
          if (row.over) return { value: 'over', change: null }
          const view = viewOf(postgres)
          await kernel.sleep(host, 600)`,
  ),
  one(
    'an outbox by gateway name',
    'Leases: outboxes belong to a lease id, never to a gateway’s name',
    'test/simulation/control.ts',
    // biome-ignore lint/suspicious/noTemplateCurlyInString: it is source text
    'const id = `${gateway}#${kernel.nextId()}`',
    'const id = gateway',
  ),
  one(
    'a lease is called over too early',
    'Leases: unrenewed for the lease’s length plus a margin',
    'src/flip/lease-watch.ts',
    'const overAfterMs = limits.lengthMs + limits.marginMs',
    'const overAfterMs = limits.lengthMs / 8',
  ),
  one(
    'a lease that has renewed is called over',
    'Leases: seen unrenewed',
    'src/flip/lease-watch.ts',
    'seen.renewals === row.renewals ? seen',
    'seen.renewals <= row.renewals ? seen',
  ),
  one(
    'calling a lease over does not refuse its renewal',
    'Leases: writes that into the row in the same look, so that a later renewal is refused',
    'test/simulation/control.ts',
    "          if (row.over) return { value: 'over', change: null }\n",
    '',
  ),
  {
    name: 'the lease is not looked at before a send',
    rule: 'A late gateway can hurt nobody: it looks at its lease before each send',
    edits: [
      {
        file: 'src/commit/insist.ts',
        find: '    if (!lease.holds()) return OVER\n    try {\n      const value = await call()\n      return lease.holds() ? value : OVER',
        put: '    try {\n      const value = await call()\n      return value',
      },
      {
        file: 'src/commit/insist.ts',
        find: '    if (!lease.holds()) return OVER\n    await pause(ctx, tries)\n  }\n}\n\n/** For reads',
        put: '    await pause(ctx, tries)\n  }\n}\n\n/** For reads',
      },
      // Else what was appended too late would be looked at once more before its rows are sent.
      { file: 'src/commit/outbox-writer.ts', find: '  return lease.holds()\n', put: '  return true\n' },
    ],
  },
  one(
    'a new lease acks nothing until the epoch is a new one',
    'Leases: acks belong to a lease id',
    'src/gateway/fence-gate.ts',
    '      // It is to be acked, though nothing else has changed: an order may wait for it.\n      this.changed.notify()\n',
    '',
  ),
  one(
    'a later lease takes the acks of an earlier one for its own',
    'Leases: acks belong to a lease id',
    'src/gateway/fence-gate.ts',
    '      this.#lease = lease\n      this.#sealed = -1\n',
    '      this.#lease = lease\n',
  ),
]

const FLIP: readonly Mutation[] = [
  one(
    'drain by idle time instead of the marker',
    'The flip 4: a transactional marker, never an idle timer',
    'src/flip/steps.ts',
    'await parts.passed(marker, signal)',
    'await parts.clock.sleep(3, signal)',
  ),
  one(
    'the marker is written before the fence',
    'The flip 4: a marker in the WAL after the fence',
    'src/flip/steps.ts',
    'target: [park, fence, drainForward, verify, commit, route],',
    'target: [park, drainForward, fence, verify, commit, route],',
  ),
  one(
    'route before the drain home',
    'The flip 4 and 6',
    'src/flip/steps.ts',
    'source: [park, drainReverse, verify, commit, route],',
    'source: [park, commit, route, drainReverse, verify],',
  ),
  one(
    'the fence waits for no writer',
    'Guard: wait until the writers from before the fence have ended',
    'src/flip/waits.ts',
    'let writers = await parts.control.waitSet(excused)',
    'let writers = (await parts.control.waitSet(excused)).slice(0, 0)',
  ),
  one(
    'no park: gateways are not waited for',
    'The flip 3',
    'src/flip/waits.ts',
    'if (look.waiting.length === 0) return rows',
    'if (look.waiting.length <= 1) return rows',
  ),
  one(
    'an ack with work in flight',
    'The flip 3: ack when what was in flight has ended',
    'src/gateway/fence-gate.ts',
    '    if ((this.#flights.get(slot) ?? 0) > 0) return true\n',
    '',
  ),
  {
    name: 'an ack with open transactions',
    rule: 'The flip 3: an open target transaction that has not sent its compare-and-set gets 40001, and what began before has ended',
    edits: [
      {
        file: 'src/gateway/fence-gate.ts',
        find: '    for (const work of this.#works) if (holds(work, slot, epoch)) return true\n    return false',
        put: '    return false',
      },
      // Else it would be ended by the same view that is acked. One on PostgreSQL is in the guard's wait set whatever an ack says.
      {
        file: 'src/gateway/fence-gate.ts',
        find: '      if (work.interrupt === null) continue\n',
        put: '      if (work.began >= 0) continue\n',
      },
    ],
  },
  one(
    'nothing is sealed by an ack',
    'The flip 3: a statement in a transaction already open on PostgreSQL runs, or gets 40001 if its key has moved',
    'src/gateway/fence-gate.ts',
    "    if (row.phase !== 'steady' && this.#sealed >= row.epoch) return new SwitchbackError('KEY_MOVED')\n    return null\n  }\n\n  /** Registers",
    '    return null\n  }\n\n  /** Registers',
  ),
  one(
    'statements are not parked',
    'The flip 3: gateways park statements that begin work on these slots',
    'src/gateway/fence-gate.ts',
    "    if (row.phase !== 'steady') return { kind: 'park' }\n",
    '',
  ),
  one(
    'a base that does not rise above what was stamped',
    'INV-4: a flip sets the new base above every stamp issued before',
    'src/flip/bases.ts',
    '    const top = row.base + (offset > 0n ? offset : 0n)',
    '    const top = row.base + (offset > 0n ? 0n : 0n)',
  ),
  one(
    'a cancel that opens a tenure',
    'INV-7: cancelled at a fresh epoch, same tenure',
    'test/simulation/control.ts',
    "owned: (slot, epoch) => postgres.own(slot, { phase: 'steady', epoch }),",
    "owned: (slot, epoch) => postgres.own(slot, { phase: 'steady', epoch, tenure: epoch }),",
  ),
  one(
    'a committed flip is cancelled by the next leader',
    'INV-7: one that has journaled its commit can only be completed',
    'src/flip/run-flip.ts',
    "    if (flip.state !== 'committed') {\n",
    '    if (flip.epoch >= 0) {\n',
  ),
  {
    name: 'an act without the leader’s token',
    rule: 'One leader: every act carries the token, compared in the transaction that acts',
    edits: [
      {
        file: 'test/simulation/postgres.ts',
        find: "    if (token !== this.token) throw new PgError('TOKEN_STALE', 'another controller leads')\n    this.leaderSharers.add(backend)\n    const lock = this.stateLock",
        put: '    this.leaderSharers.add(backend)\n    const lock = this.stateLock',
      },
    ],
  },
]

const SYNC: readonly Mutation[] = [
  one(
    'acknowledged beyond a hole',
    'INV-3',
    'src/sync/forward.ts',
    'while (this.#pendingFrom < this.#pending.length && this.#pending[this.#pendingFrom]!.remaining === 0) {',
    'while (this.#pendingFrom < this.#pending.length) {',
  ),
  one(
    'own changes are not dropped',
    'INV-5',
    'src/sync/forward.ts',
    'const own = transaction.origin !== null && this.#options.ownOrigins.has(transaction.origin)',
    'const own = false',
  ),
  one(
    'a change stamped by present ownership',
    'Tenures: a change finds its tenure by its commit LSN, never from current ownership',
    'src/sync/stamps.ts',
    'for (const record of tenures.of(slot)) if (commitLsn >= record.firstLsn) return record\n      return undefined',
    'return commitLsn > 0n ? tenures.newest(slot) : undefined',
  ),
  one(
    'a history that is not looked at again',
    'tenures: a change beyond what a history is complete for must not be stamped by it',
    'src/sync/forward.ts',
    'while (history.completeBelow <= commitLsn) {',
    'while (history.completeBelow < 0n) {',
  ),
  one(
    'rows are not put before an entry is applied',
    'Reverse sync: rows first',
    'src/sync/reverse-aggregates.ts',
    '            await this.#putRows(item)\n',
    '',
  ),
  one(
    'the end of an outbox is read before its lease is over',
    'Reverse sync: an outbox is final when its lease is over and it has been read once more to its end',
    'src/sync/reverse-outboxes.ts',
    '    if (!over || track.final) return\n    counts.holesClosed',
    '    if (!this.#context.leaseOver(track.id.lease) || track.final) return\n    counts.holesClosed',
  ),
  one(
    'an outbox is final while its lease lives',
    'Reverse sync: a hole of a living lease is waited for',
    'src/sync/reverse-outboxes.ts',
    '    if (!over || track.final) return\n    counts.holesClosed',
    '    if (track.final) return\n    counts.holesClosed',
  ),
  one(
    'an entry is void because its head is not there yet',
    'What an entry is: head not there yet, wait while its lease lives',
    'src/model/verdict.ts',
    "return evidence.leaseOver ? 'void' : 'wait'",
    "return 'void'",
  ),
  one(
    'an entry proves its commit',
    'An entry alone proves nothing: its compare-and-set may have lost',
    'src/model/verdict.ts',
    "if (at !== undefined) return at.txnId === entry.txnId ? 'committed' : 'void'",
    "if (at !== undefined) return 'committed'",
  ),
  {
    name: 'an applier without the leader’s token',
    rule: 'Reverse sync: conditional on the leader’s token',
    edits: [
      {
        file: 'test/simulation/postgres.ts',
        find: "    if (token !== this.token) throw new PgError('TOKEN_STALE', 'another controller leads')\n    this.leaderSharers.add(backend)\n    const transaction",
        put: '    this.leaderSharers.add(backend)\n    const transaction',
      },
    ],
  },
  {
    name: 'an entry of an older tenure is applied',
    rule: 'What an entry is: of an older tenure, discarded',
    edits: [
      { file: 'test/simulation/leader-parts.ts', find: "    if (row.owner !== 'target' || row.tenure !== tenure) return 'old'\n", put: '' },
      // Else the sync itself would discard it.
      {
        file: 'src/sync/reverse-aggregates.ts',
        find: "    if (tenure === 'old') {\n",
        put: "    if (tenure === 'old' && aggregate.items.size === 0) {\n",
      },
      {
        file: 'src/sync/reverse-aggregates.ts',
        find: '    if (ownership === undefined || ownership.tenure !== entry.tenure) throw',
        put: '    if (ownership === undefined) throw',
      },
    ],
  },
  {
    name: 'version n without n-1',
    rule: 'INV-6',
    edits: [
      { file: 'test/simulation/leader-parts.ts', find: "    if (version > known + 1) return 'wait'\n", put: '' },
      // Else the sync itself would send them in order.
      {
        file: 'src/sync/reverse-aggregates.ts',
        find: '  return aggregate.items.get(version)?.find((item) => item.ready)',
        put: '  return [...aggregate.items.values()].flat().find((item) => item.ready && item.entry.version >= version)',
      },
    ],
  },
  one(
    'a double is applied again',
    'Reverse sync: version already applied, a double, passed',
    'test/simulation/leader-parts.ts',
    "    if (version <= known) return 'double'\n",
    '',
  ),
  one(
    'a drain that does not wait for living leases',
    'The flip 4: every outbox entry of these slots is applied',
    'src/sync/reverse-drain.ts',
    'if (track.knownUpTo() < bound) this.#bounds.set(track, bound)',
    'if (track.knownUpTo() < 0) this.#bounds.set(track, bound)',
  ),
  one(
    'a drain that does not wait for dead leases',
    'The flip 4: those of dead gateways included',
    'src/sync/reverse-drain.ts',
    'if (!track.final) this.#finals.add(track)',
    'if (track.final) this.#finals.add(track)',
  ),
  one(
    'a put that overwrites what is newer',
    'INV-4',
    'test/commit/fake-store.ts',
    'stored.stamp >= put.stamp) return',
    'stored.stamp >= put.stamp + 1_000n) return',
  ),
]

const GUARD: readonly Mutation[] = [
  one(
    'an old snapshot passes the guard',
    'Guard, Old snapshots: for share',
    'test/simulation/postgres.ts',
    "        if (row.versions.at(-1)!.seq > transaction.snapshot!) throw new PgError('40001', 'the ownership row has changed')\n        if (row.updating) return false\n        row.sharers.add(transaction)\n        return true\n      }\n      await this.taken(transaction.backend, take, () => ['leader'])\n    }\n    const { owner, phase, readOnly } = row.versions.at(-1)!.value",
    "        return true\n      }\n      await this.taken(transaction.backend, take, () => ['leader'])\n    }\n    const { owner, phase, readOnly } = (transaction.snapshot === null ? row.versions.at(-1)! : row.versions.findLast(({ seq }) => seq <= transaction.snapshot!)!).value",
  ),
  one(
    'no guard against direct writers',
    'INV-1: PostgreSQL itself enforces it',
    'test/simulation/postgres.ts',
    "    if (owner === 'target') throw new PgError('55000', 'the key lives on the target')\n",
    '',
  ),
  one(
    'the guard lets writers pass a fence',
    'Guard: fenced is 40001',
    'test/simulation/postgres.ts',
    "    if (phase === 'fenced') throw new PgError('40001', 'the key is being moved')\n",
    '',
  ),
  one(
    'the snapshot comes before the table lock',
    'Guard: a writer takes its table lock before its snapshot',
    'test/simulation/postgres.ts',
    '      transaction.writer = true\n      this.#writers.add(transaction)\n      await this.step(backend)\n      if (transaction.isolation',
    '      await this.step(backend)\n      if (transaction.isolation',
  ),
]

export const MUTATIONS: readonly Mutation[] = [...COMMIT, ...LEASES, ...FLIP, ...SYNC, ...GUARD, ...AROUND]
