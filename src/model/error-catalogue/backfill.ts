// Promises: how the command `backfill` ends without a finished copy.
import type { ErrorEntry } from '../errors.ts'

export const BACKFILL_ERRORS = {
  BACKFILL_DONE: {
    kind: 'operator',
    sqlstate: '55000',
    message: 'the backfill is done already',
    remedy: 'Nothing was changed. The forward sync keeps the target up to date; `switchback parity` shows it.',
  },
  INTERRUPTED_BACKFILL: {
    kind: 'transient',
    sqlstate: '57014',
    message: 'the backfill was stopped: {done} of {ranges} ranges are done',
    remedy: 'What was copied stays. Run `switchback backfill` again to go on.',
  },
} as const satisfies Record<string, ErrorEntry>
