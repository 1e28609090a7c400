#!/usr/bin/env node
// Promises: the `switchback` command as a process: the program (program.ts) on the process's own streams, whose failing is an error too.
import { setMaxListeners } from 'node:events'
import { writeSync } from 'node:fs'
import { runProgram } from './program.ts'

// One signal ends everything in a process: many wait on it, and each takes its listener back.
setMaxListeners(0)
process.stdout.on('error', onOutputError)
process.stderr.on('error', onOutputError)

await runProgram(process.argv.slice(2))

/** Whoever read it has gone (`| head`): the work goes on. A full disk under it is an error, told where it still can be. */
function onOutputError(error: NodeJS.ErrnoException): void {
  if (error.code === 'EPIPE') return
  process.exitCode = 2
  try {
    writeSync(
      2,
      `error OUTPUT_FAILED: what the command prints could not be written: ${error.message}\n  Its work is done. Make room there.\n`,
    )
  } catch {
    // Then nobody can be told.
  }
}
