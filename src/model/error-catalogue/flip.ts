// Promises: why a flip does not begin, or was cancelled.
import type { ErrorEntry } from '../errors.ts'

export const FLIP_ERRORS = {
  FLIP_NOT_READY: {
    kind: 'operator',
    sqlstate: '55000',
    message: 'the flip cannot begin: {checks}',
    remedy: 'Nothing was changed. Mend what each sentence names and run the command again.',
  },
  RAMP_INVALID: {
    kind: 'operator',
    sqlstate: '22023',
    message: 'the ramp cannot be: {problems}',
    remedy: 'Nothing was changed. Correct what each sentence names and run the command again.',
  },
  FLIP_NOTHING_TO_DO: {
    kind: 'operator',
    sqlstate: '55000',
    message: 'all of these keys are on the {to} already, or are held back by poison',
    remedy: 'Nothing was changed. `switchback status` shows who owns what.',
  },
  FLIP_DEADLINE: {
    kind: 'transient',
    sqlstate: '40001',
    message: 'flip {flip} reached its deadline in step {step} while it waited for {waitingFor}',
    remedy: 'It was cancelled; the old owner serves. End what it waited for, or give it a longer deadline.',
  },
  FLIP_UNROUTED: {
    kind: 'transient',
    sqlstate: '40001',
    message: 'flip {flip} is committed and was not routed before its leader ended, while it waited for {waitingFor}',
    remedy: 'Its statements stay parked; the next leader takes it up from here and completes it.',
  },
  FLIP_CANCELLED: {
    kind: 'transient',
    sqlstate: '40001',
    message: 'flip {flip} was cancelled in step {step}: {because}',
    remedy: 'The old owner serves as before, nothing is lost. Mend the cause and run the command again.',
  },
  FLIP_HELD: {
    kind: 'transient',
    sqlstate: '55000',
    message: 'flip {flip} found writes that cannot be applied to PostgreSQL: {held}',
    remedy: 'The old owner serves. Look at `switchback poison`, mend the cause, `switchback poison retry`, and run the command again.',
  },
  FLIP_DIFFERENCES: {
    kind: 'violation',
    sqlstate: '55000',
    message: 'flip {flip} found {differences} rows that differ between the stores, first {first}',
    remedy: 'It was cancelled; the old owner serves. Run `switchback parity --full` and `parity --repair`.',
  },
} as const satisfies Record<string, ErrorEntry>
