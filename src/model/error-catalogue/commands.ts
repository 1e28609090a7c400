// Promises: how the other commands, and the orders they place with the controller, end without their work done.
import type { ErrorEntry } from '../errors.ts'

export const COMMAND_ERRORS = {
  NO_AGGREGATE: {
    kind: 'operator',
    sqlstate: '42P01',
    message: 'no table was found whose primary key could be the key of aggregates {root}',
    remedy: 'Nothing was written. Name the table with --root; its primary key must be one column of type integer, bigint, uuid or text.',
  },
  CONFIG_EXISTS: {
    kind: 'operator',
    sqlstate: 'F0000',
    message: 'there is a configuration at {file} already',
    remedy: 'Nothing was changed. Remove it or name another with --config.',
  },
  SIGNING_KEY_MISSING: {
    kind: 'operator',
    sqlstate: 'F0000',
    message: 'the key that signs certificates cannot be read: {file}',
    remedy: 'The comparison was made, but no certificate was issued. `switchback init` makes the key named by signingKeyFile.',
  },
  PARITY_STUCK: {
    kind: 'transient',
    sqlstate: '57014',
    message: '{what} has not reached the position of the comparison within {waitedMs} ms',
    remedy: 'Nothing is wrong with the data for that; see `switchback status` whether the controller runs.',
  },
  REPAIR_NOT_NOW: {
    kind: 'transient',
    sqlstate: '55006',
    message: 'key {key} is being moved, is read-only, or has no owner that is known just now',
    remedy: 'The row was left as it is. Run `switchback parity --repair --apply` again.',
  },
  POISON_UNKNOWN: {
    kind: 'operator',
    sqlstate: '22023',
    message: 'there is no poison of {what}',
    remedy: 'Nothing was changed. `switchback poison` lists the keys that are halted.',
  },
  POISON_STAYS: {
    kind: 'transient',
    sqlstate: '55000',
    message: 'PostgreSQL refuses it still: {refusals}',
    remedy: 'Nothing of these keys was applied, skipped or lost; they are halted as before. Mend the cause and try again.',
  },
  POISON_PENDING: {
    kind: 'transient',
    sqlstate: '57014',
    message: 'key {keys} has not been tried yet after {waitedMs} ms',
    remedy:
      'The order stands: the leading controller tries as soon as it can. See `switchback status` whether one leads, and `switchback poison` what came of it.',
  },
  PARITY_TOO_EARLY: {
    kind: 'operator',
    sqlstate: '55000',
    message: 'there is no finished backfill to compare',
    remedy: 'Nothing was compared. Run `switchback backfill` first.',
  },
  UNINSTALL_INCOMPLETE: {
    kind: 'operator',
    sqlstate: '55000',
    message: 'these are still there: {left}',
    remedy: 'Everything else is gone. Remove them by hand, or run the command again.',
  },
  UNINSTALL_NOT_READY: {
    kind: 'operator',
    sqlstate: '55000',
    message: 'the move cannot be uninstalled yet: {checks}',
    remedy: 'Nothing was changed. Mend what each sentence names and run the command again.',
  },
  RECONCILE_UNSAFE: {
    kind: 'operator',
    sqlstate: '55000',
    message: 'this PostgreSQL must not be made the owner of the target: {reasons}',
    remedy:
      'Nothing was changed; mapped service stays stopped. Bring the PostgreSQL back that the target belongs to. Without it: `switchback reconcile` names the keys, and what the target has of them is its newest.',
  },
  RECONCILE_PLAN: {
    kind: 'operator',
    sqlstate: '55000',
    message: 'the plan {given} is not what is found now, which is {now}',
    remedy: 'Nothing was changed. Look at `switchback reconcile` again, then give the plan that it prints.',
  },
  RECONCILE_BUSY: {
    kind: 'operator',
    sqlstate: '55006',
    message: 'the owner of the target cannot change now: {because}',
    remedy: 'Nothing was changed on the target. Stop what is named and run the command again.',
  },
  FINALIZE_NOT_READY: {
    kind: 'operator',
    sqlstate: '55000',
    message: 'the move cannot be finalized: {checks}',
    remedy: 'Nothing was changed; the way back is still open. Mend what each sentence names and run the command again.',
  },
  FINALIZE_INCOMPLETE: {
    kind: 'operator',
    sqlstate: '55000',
    message: 'the end of the move has begun and is not complete: {checks}',
    remedy: 'There is no way back any more; no write is lost. Mend what each sentence names and run `switchback finalize` again.',
  },
  CONFIRM_MISMATCH: {
    kind: 'operator',
    sqlstate: '22023',
    message: '--confirm says {given}, the migration is {migration}',
    remedy: 'Nothing was changed. Name the migration exactly to go on.',
  },
  READ_ONLY_PENDING: {
    kind: 'transient',
    sqlstate: '55000',
    message: 'the change of read-only is written, but not in force everywhere yet: it waits for {waitingFor}',
    remedy: 'Run the command again to wait on; it is in force when it returns.',
  },
  BACKLOG_PENDING: {
    kind: 'transient',
    sqlstate: '55000',
    message: 'the reverse sync has not applied what was written on the target within {waitedMs} ms: {waitingFor}',
    remedy:
      'The keys stay on the target, read-only. Mend what it names and run the command again, or let writes go on with `switchback readonly off`.',
  },
  JOB_OVER: {
    kind: 'operator',
    sqlstate: '55000',
    message: 'job {job} is over, or was held by another command',
    remedy: 'Nothing more is done for it. `switchback status` shows who owns what.',
  },
  JOB_FAILED: {
    kind: 'transient',
    sqlstate: '55000',
    message: 'the controller could not finish it: {because}',
    remedy: 'What had moved before it stays moved. Mend the cause and run the command again; it goes on from there.',
  },
  NO_CONTROLLER: {
    kind: 'operator',
    sqlstate: '57P03',
    message: 'no controller took the order up within {waitedMs} ms',
    remedy: 'The order was withdrawn, nothing was changed. Start `switchback controller` and run the command again.',
  },
  INTERRUPTED_RECONCILE: {
    kind: 'transient',
    sqlstate: '57014',
    message: 'stopped before the owner of the target was changed',
    remedy: 'The target belongs to whom it belonged. Run the command again.',
  },
  INTERRUPTED: {
    kind: 'transient',
    sqlstate: '57014',
    message: 'stopped following job {job}; the controller goes on with it',
    remedy: 'Watch it with `switchback status`; stop a move that is under way with `switchback canary hold`.',
  },
  RAMP_OPEN: {
    kind: 'operator',
    sqlstate: '55000',
    message: 'ramp {ramp} is under way',
    remedy:
      'Nothing was changed. `switchback canary run` without a plan follows it; `switchback canary hold` stops it, and then the command can be run again.',
  },
  RAMP_GONE: {
    kind: 'operator',
    sqlstate: '55000',
    message: 'there is no ramp {ramp} in the control schema any more',
    remedy: 'Nothing was changed. `switchback status` shows who owns what.',
  },
  RAMP_WITHOUT_JUDGE: {
    kind: 'operator',
    sqlstate: '55000',
    message: 'the judge is off (judge.enabled is false), and a ramp goes on by its word alone',
    remedy: 'Nothing was changed. Turn the judge on, or move the keys yourself with `switchback canary start` and `advance`.',
  },
  INTERRUPTED_RAMP: {
    kind: 'transient',
    sqlstate: '57014',
    message: 'stopped following ramp {ramp}; the controller goes on with it',
    remedy: 'Run `switchback canary run` again to follow it, watch it with `switchback status`; stop it with `switchback canary hold`.',
  },
  NOT_INSTALLED: {
    kind: 'operator',
    sqlstate: '3F000',
    message: 'the control schema is not in this database',
    remedy: 'Nothing was changed. Run `switchback init` first.',
  },
} as const satisfies Record<string, ErrorEntry>
