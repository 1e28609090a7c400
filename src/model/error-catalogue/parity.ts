// Promises: why a comparison of the stores cannot be trusted.
import type { ErrorEntry } from '../errors.ts'

export const PARITY_ERRORS = {
  DIGEST_MISMATCH: {
    kind: 'operator',
    sqlstate: 'F0000',
    message: 'PostgreSQL digests {text} as {postgres}, Switchback as {ours}: this PostgreSQL has another hash function',
    remedy: 'Nothing was compared. Report the PostgreSQL version.',
  },
  PARITY_INVALID: {
    kind: 'lost',
    sqlstate: '55000',
    message: 'parity is invalid: the forward sync has stopped ({because})',
    remedy:
      'No certificate was issued, and nothing was changed. Keys on the target are served as before. Run `switchback backfill --again`, then compare.',
  },
} as const satisfies Record<string, ErrorEntry>
