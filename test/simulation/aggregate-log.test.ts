import assert from 'node:assert/strict'
import { test } from 'node:test'
import { AggregateLog } from './aggregate-log.ts'

const START = ['x', 'y'].map((pot) => ['A', pot, '100', '0'])
const row = (pot: string, amount: number, by: number) => ['A', pot, String(amount), String(by)]

function violations(tell: (log: AggregateLog) => void): readonly string[] {
  const log = new AggregateLog(START)
  tell(log)
  const found = log.check()
  assert.equal(found.undecided, 0)
  return found.violations
}

/** It is told of its rows, from `began` to `ended`. */
function wrote(
  log: AggregateLog,
  by: number,
  acts: Readonly<Record<string, number | 'insert' | 'delete'>>,
  told: string[],
  at: [number, number],
) {
  log.wrote(log.begun('A', acts, by, at[0]), 'A', acts, told, at[1])
}

test('what each write was told and each read showed has one order', () => {
  const found = violations((log) => {
    wrote(log, 1, { x: -5, y: 5 }, ['x 95 by 1', 'y 105 by 1'], [1, 4])
    wrote(log, 2, { x: 1 }, ['x 96 by 2'], [2, 5])
    log.read('A', ['x', 'y'], [row('x', 95, 1), row('y', 105, 1)], 3, 4)
    wrote(log, 3, { n: 'insert' }, ['n 0 by 3'], [6, 7])
    log.wasThere(log.begun('A', { n: 'insert' }, 4, 8), 'A', { n: 'insert' }, 9)
    wrote(log, 5, { n: 'delete', x: 0 }, ['n 0 by 3 is gone', 'x 96 by 5'], [10, 11])
    log.read('A', ['n'], [], 12, 13)
    wrote(log, 6, { n: 0 }, [], [14, 15])
  })
  assert.deepEqual(found, [])
})

test('a write that was told of a row that another one had changed is refused', () => {
  const found = violations((log) => {
    wrote(log, 1, { x: -5 }, ['x 95 by 1'], [1, 4])
    wrote(log, 2, { x: 1 }, ['x 101 by 2'], [2, 5])
  })
  assert.match(found.join(), /no order explains what clients heard of A; .*write 2 was told x 101 by 2/)
})

test('half of a transaction, a row that came back, and one that nobody took away are refused', () => {
  const half = violations((log) => {
    wrote(log, 1, { x: -5, y: 5 }, ['x 95 by 1', 'y 105 by 1'], [1, 4])
    log.read('A', ['x', 'y'], [row('x', 95, 1), row('y', 100, 0)], 2, 3)
  })
  assert.match(half.join(), /a read of x,y showed x 95 by 1, y 100 by 0/)
  const back = violations((log) => {
    wrote(log, 1, { x: -5 }, ['x 95 by 1'], [1, 2])
    log.read('A', ['x'], [row('x', 100, 0)], 3, 4)
  })
  assert.match(back.join(), /no order explains Ax: 0 was there all/)
  const gone = violations((log) => log.read('A', ['x'], [], 1, 2))
  assert.match(gone.join(), /a read of x showed no row/)
})

test('what nobody heard of may have happened, late, or never; what was refused has not', () => {
  const unheard = (log: AggregateLog) => log.begun('A', { x: -5 }, 1, 1)
  const seen = [row('x', 95, 1)]
  assert.deepEqual(
    violations((log) => void unheard(log)),
    [],
  )
  assert.deepEqual(
    violations((log) => {
      unheard(log)
      log.read('A', ['x'], [row('x', 100, 0)], 2, 3)
      log.read('A', ['x'], seen, 8, 9)
    }),
    [],
  )
  const refused = violations((log) => {
    log.refused(unheard(log), 'A')
    log.read('A', ['x'], seen, 8, 9)
  })
  assert.match(refused.join(), /showed x 95 by 1/)
})

test('READ COMMITTED holds no row that is not there: it may have come since the statement began, and only since', () => {
  const missed = (noteBegan: number) => (log: AggregateLog) => {
    const acts = { n: 'delete', x: 0 } as const
    const entry = log.begun('A', acts, 2, 3)
    wrote(log, 1, { n: 'insert', x: 0 }, ['n 0 by 1', 'x 100 by 1'], [noteBegan, noteBegan + 1])
    log.wrote(entry, 'A', acts, ['x 100 by 2'], 9, 'before it')
    log.read('A', ['n', 'x'], [row('n', 0, 1), row('x', 100, 2)], 10, 11)
  }
  assert.deepEqual(violations(missed(5)), [])
  assert.match(violations(missed(1)).join(), /no order explains what clients heard of A/)
})

test('a write of which nobody heard may have missed a row that its snapshot lacked', () => {
  const acts = { n: 'delete', x: 0 } as const
  const half = (log: AggregateLog, missed: boolean) => {
    const entry = log.begun('A', acts, 2, 1)
    if (missed) log.perhapsWithout(entry, 'A', acts, 'n')
    wrote(log, 1, { n: 'insert' }, ['n 0 by 1'], [2, 3])
    log.read('A', ['n', 'x'], [row('n', 0, 1), row('x', 100, 2)], 4, 5)
    log.read('A', ['n', 'x'], [row('n', 0, 1), row('x', 100, 2)], 6, 7)
  }
  assert.deepEqual(
    violations((log) => half(log, true)),
    [],
  )
  const whole = violations((log) => {
    wrote(log, 3, { n: 'insert' }, ['n 0 by 3'], [0, 1])
    const entry = log.begun('A', acts, 2, 2)
    assert.equal(entry.by, 2)
    log.read('A', ['n', 'x'], [row('n', 0, 3), row('x', 100, 2)], 4, 5)
  })
  assert.match(whole.join(), /no order explains what clients heard of A/)
})
