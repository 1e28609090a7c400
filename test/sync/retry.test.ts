import assert from 'node:assert/strict'
import { test } from 'node:test'
import { seededRandom } from '../../src/lib/prng.ts'
import { SwitchbackError } from '../../src/model/errors.ts'
import { ABORTED, isRetryable, untilDone } from '../../src/sync/retry.ts'
import { VirtualClock } from '../support/virtual-clock.ts'

const sql = (code: string) => Object.assign(new Error(code), { code })

test('what may pass is tried again; a refusal, a missing right or a full disk ends the work by its own error instead of waiting for ever', () => {
  const passing = ['08006', '08001', '40001', '40P01', '57P01', '57P03', '57014', '55P03', '53200', '53300', 'ECONNRESET', 'EPIPE']
  const ending = ['53100', '58030', '42501', '42P01', '42703', '22P02', '23505', '0A000', '25P02', 'XX000']
  assert.deepEqual([passing.filter((code) => !isRetryable(sql(code))), ending.filter((code) => isRetryable(sql(code)))], [[], []])
  assert.deepEqual(
    [
      isRetryable(new SwitchbackError('CONTROL_UNREACHABLE', { reason: 'x' })),
      isRetryable(new SwitchbackError('TARGET_THROTTLED', { operation: 'x', reason: 'x' })),
      isRetryable(new SwitchbackError('TOKEN_STALE', { token: 1 })),
      isRetryable(new Error('no code')),
    ],
    [true, true, false, true],
  )
})

test('retries are counted and stop with the signal; what may not be retried rejects at once', async () => {
  const clock = new VirtualClock()
  const stop = new AbortController()
  const seen: number[] = []
  const options = { clock, random: seededRandom(3), backoff: { firstMs: 10, capMs: 100 }, onRetry: (_: unknown, n: number) => seen.push(n) }
  let tries = 0
  const third = untilDone(
    async () => {
      if (++tries < 3) throw sql('40001')
      return tries
    },
    options,
    stop.signal,
  )
  assert.equal(await clock.run(third), 3)
  await assert.rejects(clock.run(untilDone(() => Promise.reject(sql('53100')), options, stop.signal)), { code: '53100' })
  const never = untilDone(() => Promise.reject(sql('08006')), options, stop.signal)
  clock.after(5_000, () => stop.abort())
  assert.equal(await clock.run(never), ABORTED)
  assert.ok(seen.length > 20, 'backoff has a cap')
})
