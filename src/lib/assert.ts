// Promises: an assertion that fails is a bug in Switchback, named as such; it never guards user input.

/** Thrown where the code's own reasoning is wrong. A process that throws it must stop: its state is not to be trusted. */
export class BugError extends Error {
  override readonly name = 'BugError'
}

export function assert(condition: unknown, message: string): asserts condition {
  if (!condition) throw new BugError(message)
}
