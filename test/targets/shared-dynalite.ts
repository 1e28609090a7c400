// Promises: one dynalite a test process, stopped when the file's tests are over.
import { after } from 'node:test'
import { type EmbeddedDynalite, startDynalite } from '../../src/app/embedded/dynalite.ts'

let shared: Promise<EmbeddedDynalite> | null = null

// Registered while the file loads: inside a running test it would be that test's own hook.
after(async () => (await shared)?.stop())

export function sharedDynalite(): Promise<EmbeddedDynalite> {
  shared ??= startDynalite()
  return shared
}
