// Promises: what PostgreSQL does and its model did not, each as the shortest schedule that shows it, with what both say at its last step.
import type { RowAct } from '../acts.ts'
import { type Isolation, type LeaderAct, NOTE, type Pot, type SessionName, type Step } from './schedule.ts'

export interface Known {
  readonly name: string
  readonly steps: readonly Step[]
  readonly says: RegExp
}

const begin = (session: SessionName, isolation: Isolation = 'read committed'): Step => ({ kind: 'begin', session, isolation })
const strict = (session: SessionName) => begin(session, 'repeatable read')
const read = (session: SessionName, key: number): Step => ({ kind: 'read', session, key })
const write = (session: SessionName, key: number, act: RowAct, pot: Pot = NOTE): Step => ({ kind: 'write', session, key, pot, act })
const move = (session: SessionName, from: number, to: number, pot: Pot = NOTE): Step => ({ kind: 'move', session, from, to, pot })
const commit = (session: SessionName): Step => ({ kind: 'commit', session })
const intent = (slot: number): Step => ({ kind: 'intent', slot, to: 'target' })
const flip = (slot: number, act: LeaderAct): Step => ({ kind: 'flip', slot, act, open: false })
const readOnly = (slot: number, open = false): Step => ({ kind: 'read-only', slot, on: true, open })
const fenced = (slot: number): Step[] => [intent(slot), flip(slot, 'park'), flip(slot, 'fence')]
/** A note of that key, by a transaction that is over. */
const noted = (key: number): Step[] => [begin('s3'), write('s3', key, 'insert'), commit('s3')]

export const KNOWN: readonly Known[] = [
  {
    name: 'an update of a row whose insert has not committed finds none, and waits for nobody',
    steps: [begin('s1'), write('s1', 0, 'insert'), begin('s2'), write('s2', 0, 1)],
    says: /^s2: nothing$/,
  },
  {
    name: 'an insert of a key whose insert has not committed waits for it, and is a duplicate then',
    steps: [begin('s1'), write('s1', 0, 'insert'), begin('s2'), write('s2', 0, 'insert'), commit('s1')],
    says: /^s1: committed \| s2: 23505$/,
  },
  {
    name: 'an insert waits for whoever has changed the row that is there',
    steps: [...noted(0), begin('s1'), write('s1', 0, 1), begin('s2'), write('s2', 0, 'insert')],
    says: /^s2 waits for s1$/,
  },
  {
    name: 'an insert waits for nobody who has only locked the row that is there',
    steps: [
      ...noted(0),
      begin('s1'),
      move('s1', 0, 1),
      begin('s2'),
      write('s2', 0, 'delete'),
      commit('s1'),
      begin('s3'),
      write('s3', 1, 'insert'),
    ],
    says: /^s3: 23505$/,
  },
  {
    name: 'what waited for a row that went, and finds another of its key, writes nothing',
    steps: [...noted(0), begin('s1'), write('s1', 0, 'delete'), write('s1', 0, 'insert'), begin('s2'), write('s2', 0, 1), commit('s1')],
    says: /^s1: committed \| s2: nothing$/,
  },
  {
    name: 'what waited for a row that was changed, and came before, writes it',
    steps: [...noted(0), begin('s1'), write('s1', 0, 1), begin('s2'), write('s2', 0, 'delete'), commit('s1')],
    says: /^s1: committed \| s2: n 1 by \d+ is gone$/,
  },
  {
    name: 'what waited for a row that got another key writes nothing, and has it locked there',
    steps: [
      ...noted(0),
      begin('s1'),
      move('s1', 0, 1),
      begin('s2'),
      write('s2', 0, 'delete'),
      commit('s1'),
      begin('s3'),
      write('s3', 1, 'delete'),
    ],
    says: /^s3 waits for s2$/,
  },
  {
    name: 'REPEATABLE READ: a row that came since is not found',
    steps: [strict('s1'), read('s1', 0), ...noted(0), write('s1', 0, 1)],
    says: /^s1: nothing$/,
  },
  {
    name: 'REPEATABLE READ: a row that came since is a duplicate, and no failure to serialise',
    steps: [strict('s1'), read('s1', 0), ...noted(0), write('s1', 0, 'insert')],
    says: /^s1: 23505$/,
  },
  {
    name: 'REPEATABLE READ: the key of a row that went since is free',
    steps: [...noted(0), strict('s1'), read('s1', 0), begin('s2'), write('s2', 0, 'delete'), commit('s2'), write('s1', 0, 'insert')],
    says: /^s1: n 0 by \d+$/,
  },
  {
    name: 'REPEATABLE READ: a row that has changed since refuses at once, whoever holds it now',
    steps: [
      strict('s1'),
      read('s1', 0),
      begin('s2'),
      write('s2', 0, 1, 'x'),
      commit('s2'),
      begin('s3'),
      write('s3', 0, 1, 'x'),
      write('s1', 0, 1, 'x'),
    ],
    says: /^s1: 40001$/,
  },
  {
    name: 'REPEATABLE READ: an ownership row that has changed since refuses at once, whatever act holds it now',
    steps: [strict('s1'), read('s1', 0), readOnly(0), readOnly(0, true), write('s1', 0, 1, 'x')],
    says: /^s1: 40001$/,
  },
  {
    name: 'the guard refuses an insert before it waits for another of its key',
    steps: [begin('s1'), write('s1', 0, 'insert'), readOnly(0), begin('s2'), write('s2', 0, 'insert')],
    says: /^s2: 25006$/,
  },
  {
    name: 'the guard looks at the new key of a change first',
    steps: [...fenced(0), readOnly(1), begin('s1'), move('s1', 0, 1, 'x')],
    says: /^s1: 25006$/,
  },
  {
    name: 'read-only is said before fenced',
    steps: [...fenced(0), readOnly(0), begin('s1'), write('s1', 0, 1, 'x')],
    says: /^s1: 25006$/,
  },
  {
    name: 'each change of a transaction is in the stream, of one row too',
    steps: [begin('s1'), write('s1', 0, 'insert'), write('s1', 0, 2), write('s1', 0, 'delete'), commit('s1'), { kind: 'stream' }],
    says: /^leader: insert k\d+,n,0,2, update k\d+,n,2,3, delete k\d+,n,,$/,
  },
  {
    name: 'read-only that is set already asks for the rows all the same',
    steps: [readOnly(1), strict('s1'), write('s1', 0, 1, 'x'), { kind: 'read-only', slot: 0, on: false, open: false }],
    says: /^leader: ROWS_HELD$/,
  },
  {
    name: 'flips of different slots may be open at once',
    steps: [intent(0), intent(1)],
    says: /^leader: intent \+0$/,
  },
  {
    name: 'a flip to the target does not commit without its marker',
    steps: [...fenced(0), flip(0, 'commit')],
    says: /^leader: FLIP_STATE$/,
  },
  {
    name: 'a flip that is only meant cannot be finished',
    steps: [intent(0), flip(0, 'finish')],
    says: /^leader: FLIP_STATE$/,
  },
]
