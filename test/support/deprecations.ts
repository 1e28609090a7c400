// Promises: the uses of something deprecated that Node was told of from now on; each is told once a process.

export interface Deprecations {
  /** Those since the watch began; it ends here. */
  seen(): Promise<readonly string[]>
}

export function watchDeprecations(): Deprecations {
  const seen: string[] = []
  const note = (warning: Error) => {
    if (warning.name === 'DeprecationWarning') seen.push(warning.message)
  }
  process.on('warning', note)
  return {
    async seen() {
      await new Promise((resolve) => setImmediate(resolve)) // they are told a tick later
      process.off('warning', note)
      return seen
    },
  }
}
