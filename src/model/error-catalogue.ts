// Promises: the one list of error codes, put together from one file an area. A new code goes into the file of its area; the codes
// are literal types, and a test holds that no code stands in two areas.
import { BACKFILL_ERRORS } from './error-catalogue/backfill.ts'
import { COMMAND_ERRORS } from './error-catalogue/commands.ts'
import { COMMIT_ERRORS } from './error-catalogue/commit.ts'
import { CONTROL_ERRORS } from './error-catalogue/control.ts'
import { EDGE_ERRORS } from './error-catalogue/edges.ts'
import { FENCE_ERRORS } from './error-catalogue/fences.ts'
import { FLIP_ERRORS } from './error-catalogue/flip.ts'
import { GATEWAY_ERRORS } from './error-catalogue/gateway.ts'
import { JUDGE_ERRORS } from './error-catalogue/judge.ts'
import { PARITY_ERRORS } from './error-catalogue/parity.ts'
import { SOURCE_ERRORS } from './error-catalogue/source.ts'
import { SYNC_ERRORS } from './error-catalogue/sync.ts'
import { TARGET_ERRORS } from './error-catalogue/target.ts'

/** By the headings of docs/reference/errors.md, in its order. */
export const AREAS = {
  'parsing at the edges': EDGE_ERRORS,
  'leases, epochs, tokens': FENCE_ERRORS,
  target: TARGET_ERRORS,
  'commit protocol': COMMIT_ERRORS,
  sync: SYNC_ERRORS,
  source: SOURCE_ERRORS,
  'backfill command': BACKFILL_ERRORS,
  jobs: COMMAND_ERRORS,
  parity: PARITY_ERRORS,
  flip: FLIP_ERRORS,
  gateway: GATEWAY_ERRORS,
  'control schema, guard': CONTROL_ERRORS,
  judge: JUDGE_ERRORS,
} as const

export const CATALOGUE = {
  ...EDGE_ERRORS,
  ...FENCE_ERRORS,
  ...TARGET_ERRORS,
  ...COMMIT_ERRORS,
  ...SYNC_ERRORS,
  ...SOURCE_ERRORS,
  ...BACKFILL_ERRORS,
  ...COMMAND_ERRORS,
  ...PARITY_ERRORS,
  ...FLIP_ERRORS,
  ...GATEWAY_ERRORS,
  ...CONTROL_ERRORS,
  ...JUDGE_ERRORS,
} as const
