// Promises: how the command `backfill` ends without a finished copy.
import type { ErrorEntry } from '../errors.ts'

export const BACKFILL_ERRORS = {
  BACKFILL_DONE: {
    kind: 'operator',
    sqlstate: '55000',
    message: 'the backfill is done already',
    remedy: 'Nothing was changed. The forward sync keeps the target up to date; `switchback parity` shows it.',
  },
  BACKFILL_LOST: {
    kind: 'lost',
    sqlstate: '55000',
    message: 'what was copied is no longer kept up to date: {because}',
    remedy:
      'Keys on the target are served as before, and `switchback rollback` works; no more keys may move. Run `switchback backfill --again`: it makes a new replication slot, copies every row that PostgreSQL owns once more, and removes from the target what was deleted meanwhile.',
  },
  BACKFILL_WHOLE: {
    kind: 'operator',
    sqlstate: '55000',
    message: 'there is nothing to do again: {because}',
    remedy: 'Nothing was changed. `switchback status` shows how far the forward sync is.',
  },
  BACKFILL_RUNNING: {
    kind: 'operator',
    sqlstate: '55006',
    message: 'a backfill is running already: {who}',
    remedy: 'Nothing was changed, and it goes on. Wait for it, or share its work from here with --join.',
  },
  BACKFILL_SUPERSEDED: {
    kind: 'fenced',
    sqlstate: '55000',
    message: 'backfill {backfill} is over: a later one has begun',
    remedy: 'This run has ended; the later one copies every row itself.',
  },
  OWNERS_CHANGING: {
    kind: 'transient',
    sqlstate: '55006',
    message: 'owners kept changing while the backfill tried to begin ({tries} tries)',
    remedy: 'No row was copied. Wait until the rollback that is under way has ended, and run the command again.',
  },
  INTERRUPTED_BACKFILL: {
    kind: 'transient',
    sqlstate: '57014',
    message: 'the backfill was stopped: {done} of {ranges} ranges are done',
    remedy: 'What was copied stays. Run `switchback backfill` again to go on.',
  },
  INTERRUPTED_SWEEP: {
    kind: 'transient',
    sqlstate: '57014',
    message: 'the backfill was stopped: every row is copied, and {done} of {parts} parts of the target are swept of deleted rows',
    remedy: 'What is done stays. Run `switchback backfill` again to go on.',
  },
} as const satisfies Record<string, ErrorEntry>
