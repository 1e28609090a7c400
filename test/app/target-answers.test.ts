import assert from 'node:assert/strict'
import { test } from 'node:test'
import { ANSWER_LIMITS, createTargetAnswers } from '../../src/app/target-answers.ts'
import { SwitchbackError } from '../../src/model/errors.ts'
import type { Target } from '../../src/model/target.ts'
import { VirtualClock } from '../support/virtual-clock.ts'

const NEVER = new AbortController().signal

async function asked(readHead: (n: number) => Promise<null>, times = 1): Promise<{ answers: boolean[]; tookMs: number[]; asks: number }> {
  const clock = new VirtualClock()
  let asks = 0
  const target: Pick<Target, 'readHead'> = { readHead: () => readHead(++asks) }
  const answers = createTargetAnswers({ target, key: 'probe', clock })
  const result = { answers: [] as boolean[], tookMs: [] as number[], asks: 0 }
  for (let i = 0; i < times; i++) {
    const began = clock.now
    result.answers.push(await clock.run(answers(NEVER)))
    result.tookMs.push(clock.now - began)
  }
  return { ...result, asks }
}

const failing = (code: 'TARGET_THROTTLED' | 'TARGET_UNKNOWN' | 'TARGET_REFUSED') => async () => {
  throw new SwitchbackError(code, { operation: 'readHead', reason: 'test' })
}

test('a target that is reached answers at once, a refusal included', async () => {
  assert.deepEqual((await asked(async () => null)).answers, [true])
  assert.deepEqual((await asked(failing('TARGET_REFUSED'))).answers, [true])
})

test('whether it hangs, refuses connections or resets them: it is silent, and the next flip waits less (26, 60)', async () => {
  const { targetAnswerMs, silentAnswerMs } = ANSWER_LIMITS
  for (const silent of [() => new Promise<null>(() => {}), failing('TARGET_THROTTLED'), failing('TARGET_UNKNOWN')]) {
    const { answers, tookMs } = await asked(silent, 2)
    assert.deepEqual({ answers, tookMs }, { answers: [false, false], tookMs: [targetAnswerMs, silentAnswerMs] })
  }
})

test('one lost request is no silence', async () => {
  const { answers, asks } = await asked(async (n) => (n < 3 ? failing('TARGET_UNKNOWN')() : null))
  assert.deepEqual([answers, asks], [[true], 3])
})
