// Promises: why a comparison of the stores cannot be trusted.
import type { ErrorEntry } from '../errors.ts'

export const PARITY_ERRORS = {
  DIGEST_MISMATCH: {
    kind: 'operator',
    sqlstate: 'F0000',
    message: 'PostgreSQL digests {text} as {postgres}, Switchback as {ours}: this PostgreSQL has another hash function',
    remedy: 'Nothing was compared. Report the PostgreSQL version.',
  },
} as const satisfies Record<string, ErrorEntry>
