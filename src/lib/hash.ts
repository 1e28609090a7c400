// Promises: hashes that are the same here and inside PostgreSQL (`sha256()` there).
import { createHash } from 'node:crypto'

/** The first 12 bits of sha256 of the text's UTF-8 bytes: 0..4095. */
export function first12BitsOfSha256(text: string): number {
  const digest = createHash('sha256').update(text, 'utf8').digest()
  return (digest[0]! << 4) | (digest[1]! >> 4)
}
