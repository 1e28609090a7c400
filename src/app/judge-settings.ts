// Promises: the judge's part of the configuration with every default filled in.
import { JUDGE_DEFAULTS, type JudgeConfig } from '../canary/judge.ts'
import type { MigrationConfig } from '../model/migration.ts'

export interface JudgeSettings {
  readonly enabled: boolean
  readonly config: JudgeConfig
  readonly showKeys: boolean
  readonly growth: number
  readonly evidenceFilesMax: number
}

const EVIDENCE_FILES_MAX = 20

export function judgeSettings({ judge: given = {} }: Pick<MigrationConfig, 'judge'>): JudgeSettings {
  const { enabled = true, showKeys = false, growth = 1, evidenceFilesMax = EVIDENCE_FILES_MAX, promotion, ...limits } = given
  return {
    enabled,
    showKeys,
    growth,
    evidenceFilesMax,
    config: { ...JUDGE_DEFAULTS, ...limits, promotion: { ...JUDGE_DEFAULTS.promotion, ...promotion } },
  }
}
