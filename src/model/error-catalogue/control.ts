// Promises: the control schema and the guard in PostgreSQL.
import type { ErrorEntry } from '../errors.ts'

export const CONTROL_ERRORS = {
  CONTROL_UNREACHABLE: {
    kind: 'transient',
    sqlstate: '57P03',
    message: 'the control schema in PostgreSQL did not answer: {reason}',
    remedy: 'The request may have taken effect and is sent again; mapped tables are not served past the lease meanwhile.',
  },
  CONTROL_NEWER: {
    kind: 'operator',
    sqlstate: 'F0000',
    message: 'the control schema is of version {found}, and this Switchback knows versions up to {known}',
    remedy: 'Nothing was changed. Run the newer Switchback that installed it.',
  },
  CONTROL_OF_ANOTHER: {
    kind: 'operator',
    sqlstate: 'F0000',
    message: 'the control schema in this database belongs to the move "{found}", not to "{wanted}"',
    remedy: 'Nothing was changed. Finish that move, or run `switchback uninstall` with its configuration, first.',
  },
  MAPPING_CHANGED: {
    kind: 'operator',
    sqlstate: 'F0000',
    message: 'the mapped tables are not those with which the canary was started',
    remedy: 'Nothing was changed. Restore the tables in the configuration, or roll back and run `switchback uninstall` first.',
  },
  ROWS_HELD: {
    kind: 'transient',
    sqlstate: '55P03',
    message: 'the change of ownership was kept waiting by {holders}',
    remedy: 'Nothing was changed. End the transactions named, or try again when they have ended.',
  },
  GUARD_LOCKED: {
    kind: 'transient',
    sqlstate: '55P03',
    message: 'the guard got no lock on the mapped tables in {tries} tries within {waitedMs} ms: {holders}',
    remedy: 'The guard is as it was, and no key has moved. End the transactions named, or order it again when they have ended.',
  },
  FLIP_STATE: {
    kind: 'fenced',
    sqlstate: '55000',
    message: 'flip {flip} is {state}: {act} is not possible',
    remedy: 'Nothing was changed. The flip is read from the journal again.',
  },
  FLIP_OVERLAPS: {
    kind: 'operator',
    sqlstate: '55006',
    message: 'flip {flip} ({state}) has some of these slots',
    remedy: 'Nothing was changed. Wait until it is done, or cancel it.',
  },
  CATALOG_CHANGED: {
    kind: 'violation',
    sqlstate: '55000',
    message: 'the mapped tables are not as planned any more, so flip {flip} does not commit',
    remedy: 'The old owner serves. See what changed in the tables, and plan the move again.',
  },
  GUARD_REFUSED: {
    kind: 'operator',
    sqlstate: 'F0000',
    message: 'the guard cannot be installed: {problem}',
    remedy: 'Nothing was changed. Correct it and run the command again.',
  },
} as const satisfies Record<string, ErrorEntry>
