// Promises: a stale lease, token, epoch or tenure: whoever acts under it stops.
import type { ErrorEntry } from '../errors.ts'

export const FENCE_ERRORS = {
  LEASE_OVER: {
    kind: 'fenced',
    sqlstate: '57P01',
    message: 'the lease {lease} of this gateway is over',
    remedy: 'Nothing more is sent under it; the gateway takes a new lease by itself. Try again.',
  },
  NO_LEASE: {
    kind: 'fenced',
    sqlstate: '57P03',
    message: 'this gateway holds no valid lease, so it serves no mapped table',
    remedy: 'The statement was not run. Try again; if it stays, see whether the gateway reaches PostgreSQL.',
  },
  TOKEN_STALE: {
    kind: 'fenced',
    sqlstate: '57P01',
    message: 'leader token {token} is stale: another controller leads',
    remedy: 'Nothing was changed by this controller; it stands by.',
  },
  EPOCH_STALE: {
    kind: 'fenced',
    sqlstate: '40001',
    message: 'the flip began at epoch {expected}, and slot {slot} is at epoch {actual}',
    remedy: 'Nothing was changed. The flip is read from the journal again.',
  },
  POSTGRES_CHANGED: {
    kind: 'operator',
    sqlstate: '57P03',
    message: 'this PostgreSQL is not the one that the target belongs to: {differences}',
    remedy:
      'This process serves, copies and moves nothing. Go back to the PostgreSQL that it belongs to, or see with `switchback reconcile` what differs and whether this one may take its place.',
  },
  POSTGRES_UNCOMPARED: {
    kind: 'transient',
    sqlstate: '57P03',
    message: 'whether the target belongs to this PostgreSQL is not known: the target has not answered',
    remedy: 'Nothing mapped is served before it is known; it is asked again by itself. Check that the target can be reached.',
  },
  TENURE_STALE: {
    kind: 'fenced',
    sqlstate: '40001',
    message: 'the write belongs to tenure {tenure} of the slot, which is over',
    remedy: 'Nothing was written. Try again.',
  },
} as const satisfies Record<string, ErrorEntry>
