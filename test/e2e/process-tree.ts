// Promises: the processes under one, as Linux lists them, each known again by its start time, so that a reused number is no survivor.
import { readdirSync, readFileSync } from 'node:fs'

interface Seen {
  readonly pid: number
  readonly parent: number
  readonly startedAt: string
  readonly command: string
  readonly zombie: boolean
}

function look(pid: number): Seen | null {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8')
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
    const command = readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ').slice(0, 300)
    return { pid, parent: Number(fields[1]), startedAt: fields[19]!, command, zombie: fields[0] === 'Z' }
  } catch {
    return null // it has ended meanwhile
  }
}

export class ProcessTree {
  readonly #root: number
  readonly #seen = new Map<string, Seen>()

  constructor(root: number) {
    this.#root = root
  }

  /** Notes who lives under the root now; what was noted stays noted, wherever its parent goes. */
  note(): this {
    const all = readdirSync('/proc')
      .filter((name) => /^\d+$/.test(name))
      .map((name) => look(Number(name)))
      .filter((one) => one !== null)
    const under = new Set([this.#root, ...[...this.#seen.values()].map((one) => one.pid)])
    for (let grew = true; grew; ) {
      grew = false
      for (const one of all) {
        if (!under.has(one.parent) || under.has(one.pid)) continue
        under.add(one.pid)
        grew = true
      }
    }
    for (const one of all) if (under.has(one.pid)) this.#seen.set(`${one.pid} ${one.startedAt}`, one)
    return this
  }

  get size(): number {
    return this.#seen.size
  }

  /** Of all that was noted, what still runs. */
  living(): string[] {
    return [...this.#seen.values()]
      .filter(({ pid, startedAt }) => {
        const now = look(pid)
        return now !== null && now.startedAt === startedAt && !now.zombie
      })
      .map(({ pid, command }) => `${pid}: ${command}`)
  }

  kill(): void {
    for (const line of this.living()) {
      try {
        process.kill(Number(line.split(':')[0]), 'SIGKILL')
      } catch {
        // It has just ended.
      }
    }
  }
}
