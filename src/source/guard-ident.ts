// Promises: names inside SQL text are quoted here.

/** An identifier, always quoted. */
export function ident(name: string): string {
  return `"${name.replaceAll('"', '""')}"`
}
