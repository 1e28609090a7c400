// Promises: which time zones the runtime's data and PostgreSQL's have alike, found out once for each zone of a client: in the others
// PostgreSQL itself renders what a moved key's statement shows (INV-12).
import { ZONE_SAMPLES_SQL, zoneDiffers } from '../wire/values.ts'

/** Zones remembered; PostgreSQL knows about 600 by name. */
const ZONES_MAX = 1_000

export class Zones {
  readonly #trusted = new Map<string, boolean>()

  /** False also where it has not been compared yet. */
  trusted(timeZone: string): boolean {
    return this.#trusted.get(timeZone) === true
  }

  /** `ask` runs a query of one value. Compared once; a zone that the server refuses is not trusted. */
  async compare(timeZone: string, ask: (sql: string) => Promise<string | null>): Promise<void> {
    if (this.#trusted.has(timeZone)) return
    const answer = await ask(ZONE_SAMPLES_SQL.replaceAll('$1', `'${timeZone.replaceAll("'", "''")}'::text`))
    const offsets = answer === null ? [] : answer.slice(1, -1).split(',').map(Number)
    if (this.#trusted.size >= ZONES_MAX) this.#trusted.clear()
    this.#trusted.set(timeZone, offsets.length > 0 && !zoneDiffers(timeZone, offsets))
  }
}
