// Promises: what a store on the target side answers, or does not.
import type { ErrorEntry } from '../errors.ts'

export const TARGET_ERRORS = {
  TARGET_UNKNOWN: {
    kind: 'unknown',
    sqlstate: '08007',
    message: 'the target did not answer {operation}: it may have taken effect, or may yet ({reason})',
    remedy: 'Read the row back before you try again.',
  },
  TARGET_THROTTLED: {
    kind: 'transient',
    sqlstate: '53400',
    message: 'the target refused {operation} for now: {reason}',
    remedy: 'Nothing was written by it. It is tried again with backoff.',
  },
  TARGET_REFUSED: {
    kind: 'client',
    sqlstate: '58000',
    message: 'the target refused {operation}: {reason}',
    remedy: 'Nothing was written by it.',
  },
  TARGET_UNREACHABLE: {
    kind: 'operator',
    sqlstate: '08001',
    message: 'the target at {endpoint} cannot be reached: {reason}',
    remedy: 'Nothing was changed. Check the address, the credentials and the network, then run the command again.',
  },
} as const satisfies Record<string, ErrorEntry>
