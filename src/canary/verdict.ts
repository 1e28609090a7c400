// Promises: nothing of its own: the judge's words are the model's, since the control schema keeps them.
export type { Act, ArmSummary, DetectorName, JudgeVerdict, QuantileEvidence, VerdictEvidence } from '../model/judge-verdict.ts'
