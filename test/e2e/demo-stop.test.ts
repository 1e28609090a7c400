// The demo that is stopped on its way to its load; what is stopped under load is in test/fault.
import { stopTest } from './demo-stop.ts'

stopTest({ when: 'while its databases start', says: /Starting an embedded PostgreSQL/, signal: 'SIGINT', group: true })
stopTest({ when: 'in its first command', says: /switchback init: reads/, signal: 'SIGTERM', group: false })
stopTest({ when: 'as its load begins', says: /The ledger's load begins/, signal: 'SIGINT', group: false, twice: true })
