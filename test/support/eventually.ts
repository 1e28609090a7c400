// Promises: a wait on a condition, never a sleep; fails with what was last seen.

export async function eventually<T>(
  look: () => Promise<T | undefined | false> | T | undefined | false,
  what: string,
  deadlineMs = 15_000,
): Promise<T> {
  const deadline = performance.now() + deadlineMs
  let last: unknown
  for (;;) {
    try {
      const value = await look()
      if (value !== undefined && value !== false) return value
      last = value
    } catch (error) {
      last = error
    }
    if (performance.now() > deadline) throw new Error(`not within ${deadlineMs} ms: ${what}`, { cause: last })
    await new Promise((resolve) => setTimeout(resolve, 5))
  }
}
