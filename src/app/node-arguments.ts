// Promises: the arguments with which a child runs the same way as this process, wherever it runs: a loader that was named by its
// package is found from here, not from the child's folder.

export function nodeArguments(): string[] {
  return process.execArgv.map((argument, i) =>
    process.execArgv[i - 1] === '--import' && !argument.includes(':') ? import.meta.resolve(argument) : argument,
  )
}
