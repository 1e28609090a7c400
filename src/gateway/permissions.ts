// Promises: before a plan runs on the target for a role, PostgreSQL's own permission check has passed for that statement and role,
// and a pass holds only while the digests that every renewal reads are unchanged (protocols.md, Reads; faults.md 63, 72).
export class Permissions {
  readonly #entriesMax: number
  readonly #passed = new Set<string>()
  #digest = ''

  constructor(options: { entriesMax: number }) {
    this.#entriesMax = options.entriesMax
  }

  /** A renewal's digests: any change makes every pass void. */
  renewed(digest: string): void {
    if (digest === this.#digest) return
    this.#digest = digest
    this.#passed.clear()
  }

  /** The digest under which a check begins: a pass of an older one is not taken. */
  get digest(): string {
    return this.#digest
  }

  has(role: string, searchPath: string, sql: string): boolean {
    return this.#passed.has(`${role}\0${searchPath}\0${sql}`)
  }

  pass(role: string, searchPath: string, sql: string, digest: string): void {
    if (digest !== this.#digest) return
    if (this.#passed.size >= this.#entriesMax) this.#passed.clear()
    this.#passed.add(`${role}\0${searchPath}\0${sql}`)
  }
}
