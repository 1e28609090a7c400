// Promises: what PostgreSQL said of a statement's parameters and columns, remembered by everything that its answer depends on, so
// that a moved key's statement costs PostgreSQL nothing (gateway.md, Plans). Bounded by bytes; void when the catalog changes.
import type { FieldDescription } from '../wire/backend.ts'

export interface Description {
  readonly paramOids: readonly number[]
  /** Null: it returns no rows. */
  readonly fields: readonly FieldDescription[] | null
}

export interface DescriptionKey {
  readonly sql: string
  readonly searchPath: string
  readonly role: string
  /** Types that the client gave with Parse. */
  readonly declaredOids: readonly number[]
}

const FIELD_BYTES = 120

export class Descriptions {
  readonly #bytesMax: number
  readonly #entries = new Map<string, { readonly description: Description; readonly bytes: number }>()
  #bytes = 0

  constructor(options: { bytesMax: number }) {
    this.#bytesMax = options.bytesMax
  }

  get(key: DescriptionKey): Description | undefined {
    return this.#entries.get(textOf(key))?.description
  }

  set(key: DescriptionKey, description: Description): void {
    const text = textOf(key)
    const bytes = text.length * 2 + description.paramOids.length * 8 + (description.fields?.length ?? 0) * FIELD_BYTES
    if (bytes > this.#bytesMax) return
    this.#forget(text)
    this.#entries.set(text, { description, bytes })
    this.#bytes += bytes
    for (const oldest of this.#entries.keys()) {
      if (this.#bytes <= this.#bytesMax) break
      this.#forget(oldest)
    }
  }

  clear(): void {
    this.#entries.clear()
    this.#bytes = 0
  }

  #forget(text: string): void {
    const entry = this.#entries.get(text)
    if (entry === undefined) return
    this.#entries.delete(text)
    this.#bytes -= entry.bytes
  }
}

function textOf(key: DescriptionKey): string {
  return `${key.role}\0${key.searchPath}\0${key.declaredOids.join(',')}\0${key.sql}`
}
