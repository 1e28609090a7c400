import assert from 'node:assert/strict'
import { test } from 'node:test'
import { ANSWER_LIMITS, askForMs, createTargetAnswers, silenceAfter } from '../../src/app/target-answers.ts'
import { SwitchbackError } from '../../src/model/errors.ts'
import type { Target } from '../../src/model/target.ts'
import { VirtualClock } from '../support/virtual-clock.ts'

const NEVER = new AbortController().signal
const { targetAnswerMs, silentAnswerMs, lookMs, looksMin, staleMs, hangingMax } = ANSWER_LIMITS

type ReadHead = (n: number) => Promise<null>

function scene(readHead: ReadHead) {
  const clock = new VirtualClock()
  const world = { readHead, asks: 0, watched: true }
  const target: Pick<Target, 'readHead'> = { readHead: () => world.readHead(++world.asks) }
  const answers = createTargetAnswers({ target, key: 'probe', clock, watched: () => world.watched })
  /** What a flip is told that begins now, and after how long. */
  const flip = async () => {
    const began = clock.now
    const answered = await answers.ask(NEVER)
    return { answered, tookMs: clock.now - began }
  }
  const watching = async (story: () => Promise<void>) => {
    const stop = new AbortController()
    const running = answers.run(stop.signal)
    await clock.run(story().finally(() => stop.abort()))
    await running
  }
  return { clock, world, flip, watching }
}

const failing = (code: 'TARGET_THROTTLED' | 'TARGET_UNKNOWN' | 'TARGET_REFUSED') => async () => {
  throw new SwitchbackError(code, { operation: 'readHead', reason: 'test' })
}
const HANGS: ReadHead = () => new Promise(() => {})
const ANSWERS: ReadHead = async () => null
const SILENT: readonly ReadHead[] = [HANGS, failing('TARGET_THROTTLED'), failing('TARGET_UNKNOWN')]

test('a target that is reached answers at once, a refusal included', async () => {
  for (const readHead of [ANSWERS, failing('TARGET_REFUSED')]) {
    const { clock, flip } = scene(readHead)
    assert.deepEqual(await clock.run(flip()), { answered: true, tookMs: 0 })
  }
})

test('whether it hangs, refuses connections or resets them: it is silent, and the next flip waits less (26, 60)', async () => {
  for (const silent of SILENT) {
    const { clock, flip } = scene(silent)
    assert.deepEqual(await clock.run(flip()), { answered: false, tookMs: targetAnswerMs })
    assert.deepEqual(await clock.run(flip()), { answered: false, tookMs: silentAnswerMs })
  }
})

test('one lost request is no silence, whether it fails or hangs', async () => {
  for (const lost of SILENT) {
    const { clock, world, flip } = scene((n) => (n < 3 ? lost(n) : ANSWERS(n)))
    assert.deepEqual([(await clock.run(flip())).answered, world.asks], [true, 3])
  }
})

test('a silence that was watched counts: a flip that begins in it asks once more and goes on (26, 60)', async () => {
  for (const silent of SILENT) {
    const { clock, world, flip, watching } = scene(ANSWERS)
    await watching(async () => {
      await clock.sleep(10 * lookMs)
      world.readHead = silent
      await clock.sleep(targetAnswerMs + 2 * lookMs)
      const { asks } = world
      assert.deepEqual(await flip(), { answered: false, tookMs: silentAnswerMs })
      assert.ok(world.asks - asks >= 2, 'a flip asks, and not once')
    })
  }
})

test('a flip that begins in the middle of a silence waits for the rest of it; in one lost look, for all of it', async () => {
  const { clock, world, flip, watching } = scene(ANSWERS)
  await watching(async () => {
    await clock.sleep(lookMs / 2)
    world.readHead = HANGS
    await clock.sleep(2 * lookMs) // one look has had no answer
    assert.deepEqual(await flip(), { answered: false, tookMs: targetAnswerMs })
  })
  const later = scene(ANSWERS)
  await later.watching(async () => {
    await later.clock.sleep(lookMs / 2)
    later.world.readHead = HANGS
    await later.clock.sleep(3 * lookMs)
    assert.deepEqual(await later.flip(), { answered: false, tookMs: targetAnswerMs - 2.5 * lookMs })
  })
})

test('a target that answers again is believed at once, by the flip and by the watch, also when an old request is answered', async () => {
  const { clock, world, flip, watching } = scene(HANGS)
  await watching(async () => {
    await clock.sleep(4 * targetAnswerMs)
    world.readHead = ANSWERS
    assert.deepEqual(await flip(), { answered: true, tookMs: 0 })
    world.readHead = HANGS
    assert.deepEqual(await flip(), { answered: false, tookMs: targetAnswerMs }, 'its silence begins anew')
  })
  let reply = () => {}
  const late = scene((n) => (n === 1 ? new Promise((resolve) => (reply = () => resolve(null))) : HANGS(n)))
  await late.watching(async () => {
    await late.clock.sleep(targetAnswerMs + 2 * lookMs)
    reply()
    await late.clock.sleep(1)
    assert.equal((await late.flip()).tookMs, targetAnswerMs)
  })
})

test('while the target owns nothing nobody asks it, and no silence is remembered', async () => {
  const { clock, world, flip, watching } = scene(HANGS)
  await watching(async () => {
    await clock.sleep(targetAnswerMs + 2 * lookMs)
    world.watched = false
    await clock.sleep(2 * lookMs)
    const { asks } = world
    await clock.sleep(20 * lookMs)
    assert.equal(world.asks, asks)
    assert.equal((await flip()).tookMs, targetAnswerMs)
  })
})

test('looks that hang are bounded, and the watch goes on when they end', async () => {
  const { clock, world, flip, watching } = scene(HANGS)
  await watching(async () => {
    await clock.sleep(100 * lookMs)
    assert.equal(world.asks, hangingMax)
    assert.equal((await flip()).tookMs, silentAnswerMs, 'the silence goes on')
  })
})

test('INV-10: a silence that nobody has looked at for long says nothing, and is not made longer by a new one', () => {
  const old = { sinceMs: 0, seenMs: 10_000, looks: 20 }
  assert.equal(askForMs(old, 10_000 + staleMs, ANSWER_LIMITS), silentAnswerMs)
  assert.equal(askForMs(old, 10_001 + staleMs, ANSWER_LIMITS), targetAnswerMs)
  assert.equal(askForMs(null, 0, ANSWER_LIMITS), targetAnswerMs)
  assert.equal(askForMs({ ...old, looks: looksMin - 1 }, 10_000, ANSWER_LIMITS), targetAnswerMs)
  const looked = { askedMs: 11_000, nowMs: 11_500, looks: 1 }
  assert.deepEqual(silenceAfter(old, looked, staleMs), { sinceMs: 0, seenMs: 11_500, looks: 21 })
  assert.deepEqual(silenceAfter(old, { ...looked, askedMs: 20_000, nowMs: 20_500 }, staleMs), { sinceMs: 20_000, seenMs: 20_500, looks: 1 })
})

test('who is stopped while it asks has seen no silence', async () => {
  const clock = new VirtualClock()
  const answers = createTargetAnswers({ target: { readHead: () => HANGS(1) }, key: 'probe', clock, watched: () => true })
  const stop = new AbortController()
  clock.after(targetAnswerMs - 1, () => stop.abort())
  assert.equal(await clock.run(answers.ask(stop.signal)), false)
  const began = clock.now
  await clock.run(answers.ask(NEVER))
  assert.equal(clock.now - began, targetAnswerMs)
})
