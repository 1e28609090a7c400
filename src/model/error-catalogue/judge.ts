// Promises: what the judge's word stops, and what is asked of its verdicts.
import type { ErrorEntry } from '../errors.ts'

export const JUDGE_ERRORS = {
  CANARY_ROLLED_BACK: {
    kind: 'operator',
    sqlstate: '55000',
    message: 'the judge turned the traffic back to PostgreSQL at {at} ({detector}), after this order was given or without a person since',
    remedy:
      'Nothing was moved. Read `switchback judge report`, mend the cause, and start the canary again by `switchback canary start` or `canary run`.',
  },
  VERDICT_UNKNOWN: {
    kind: 'operator',
    sqlstate: '22023',
    message: 'there is no {what}',
    remedy: 'Nothing was changed. `switchback judge verdicts` lists what there is.',
  },
  VERDICT_WITHOUT_EVIDENCE: {
    kind: 'operator',
    sqlstate: '22023',
    message: 'no evidence of verdict {verdict} is kept',
    remedy:
      'Nothing was written. Evidence is kept of rollbacks, and of the newest of those (judge.evidenceFilesMax in the configuration); its numbers are in `switchback judge report {verdict}`.',
  },
} as const satisfies Record<string, ErrorEntry>
