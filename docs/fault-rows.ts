// Promises: which tests cover which row of the faults, read from docs/internals/faults.md, and the table that docs/internals/proof.md makes of it:
// where each row is tried (the simulator, the whole product, a part of it) and which invariants its tests name.

export interface FaultRow {
  readonly row: number
  readonly tests: readonly NamedTest[]
  /** Why there is none, or what is left out. */
  readonly notCovered: readonly string[]
}

export interface NamedTest {
  /** From `test/`. */
  readonly file: string
  /** `…` where a template is filled in. */
  readonly name: string
}

const LIST = '## Which test covers which row'

/** Throws Error on a line that is neither. */
export function faultRows(page: string): FaultRow[] {
  const rows: { row: number; tests: NamedTest[]; notCovered: string[] }[] = []
  for (const line of page.slice(page.indexOf(LIST)).split('\n')) {
    const head = /^- \*\*(\d+)\*\*$/.exec(line)
    if (head !== null) rows.push({ row: Number(head[1]), tests: [], notCovered: [] })
    else if (line.startsWith('  - ')) {
      const at = rows.at(-1)
      const test = /^`([\w./-]+)`: (.+)$/.exec(line.slice(4))
      const not = /^not covered: (.{10,})/.exec(line.slice(4))
      if (test !== null) at?.tests.push({ file: test[1]!, name: test[2]! })
      else if (not !== null) at?.notCovered.push(not[1]!)
      else throw new Error(`row ${at?.row}: ${line}`)
    }
  }
  return rows
}

const PLACES = ['simulator', 'whole product', 'part, real stores', 'part, by itself'] as const
type Place = (typeof PLACES)[number]

/** `read` gives the text of a file of `test/`. */
export function placeOf(file: string, read: (file: string) => string): Place {
  if (file.startsWith('simulation/')) return 'simulator'
  if (/^(e2e|fault)\//.test(file)) return 'whole product'
  return /support\/(postgres|stores)|dynalite|fixture|startWorld|real-stores/i.test(read(file)) ? 'part, real stores' : 'part, by itself'
}

export function faultTable(rows: readonly FaultRow[], read: (file: string) => string): string {
  const lines = rows.map(({ row, tests, notCovered }) => {
    const counts = PLACES.map((place) => tests.filter(({ file }) => placeOf(file, read) === place).length)
    const invariants = new Set(tests.flatMap(({ name }) => invariantsOf(name)))
    const cells = counts.map((count) => (count === 0 ? '' : String(count)))
    return `| ${[row, ...cells, runsOf(invariants), notCovered.join('; ')].join(' | ')} |`
  })
  return [
    `| row | ${PLACES.join(' | ')} | invariants named | not covered |`,
    `|---|${'---|'.repeat(PLACES.length + 2)}`,
    ...lines,
    '',
  ].join('\n')
}

/** "INV-1 to INV-9" are all of these. */
function invariantsOf(name: string): number[] {
  const range = /INV-(\d+) to INV-(\d+)/.exec(name)
  if (range !== null) {
    const [from, to] = [Number(range[1]), Number(range[2])]
    return Array.from({ length: to - from + 1 }, (_, i) => from + i)
  }
  return [...name.matchAll(/INV-(\d+)/g)].map((match) => Number(match[1]))
}

/** 1, 3, 4, 5 are "INV-1, INV-3 to INV-5". */
function runsOf(numbers: ReadonlySet<number>): string {
  const runs: [from: number, to: number][] = []
  for (const n of [...numbers].sort((a, b) => a - b)) {
    const last = runs.at(-1)
    if (last !== undefined && last[1] === n - 1) last[1] = n
    else runs.push([n, n])
  }
  return runs.map(([from, to]) => (from === to ? `INV-${from}` : `INV-${from} to INV-${to}`)).join(', ')
}
