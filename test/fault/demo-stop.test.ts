// The demo that is stopped under load, in the middle of a command that it runs.
import { stopTest } from '../e2e/demo-stop.ts'

stopTest({ when: 'in the backfill', says: /switchback backfill: copies/, signal: 'SIGINT', group: true })
stopTest({ when: 'in the canary', says: /switchback canary advance 25%/, signal: 'SIGINT', group: true })
stopTest({ when: 'in the canary', says: /switchback canary start 1%/, signal: 'SIGTERM', group: false })
stopTest({
  when: 'while its store answers nothing',
  says: /The store stops answering, for good/,
  signal: 'SIGINT',
  group: true,
  options: ['--incident', 'dead-target'],
})
