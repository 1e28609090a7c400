// Promises: each planted bug run in a process of its own until a seed catches it, or the seeds are used up; a few at a time.
import { spawn } from 'node:child_process'
import type { Mutation } from './mutation.ts'
import { patchedCopy } from './patched.ts'

export interface Caught {
  readonly mutation: Mutation
  /** The seed that caught it, which is how many it took from the first; null: it survived. */
  readonly seed: number | null
  /** The first check that failed. */
  readonly by: string | null
}

export interface MutationOptions {
  readonly seeds: { readonly from: number; readonly to: number }
  readonly scenario: string
  readonly told: (one: Caught) => void
}

const AT_ONCE = 2

export async function runMutations(mutations: readonly Mutation[], options: MutationOptions): Promise<readonly Caught[]> {
  const caught: Caught[] = []
  let next = 0
  const worker = async () => {
    for (let i = next++; i < mutations.length; i = next++) {
      caught[i] = await runMutation(mutations[i]!, options)
      options.told(caught[i]!)
    }
  }
  await Promise.all(Array.from({ length: AT_ONCE }, worker))
  return caught
}

async function runMutation(mutation: Mutation, { seeds, scenario }: MutationOptions): Promise<Caught> {
  using copy = patchedCopy(mutation)
  const args = ['--import', 'tsx', 'test/simulation/main.ts', '--seeds', `${seeds.from}-${seeds.to}`]
  const child = spawn(process.execPath, [...args, '--scenario', scenario, '--until-caught', '--json'], {
    cwd: copy.folder,
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  let stdout = ''
  let stderr = ''
  child.stdout.on('data', (chunk: Buffer) => {
    stdout += chunk.toString('utf8')
  })
  child.stderr.on('data', (chunk: Buffer) => {
    stderr = (stderr + chunk.toString('utf8')).slice(-4_000)
  })
  const code = await new Promise<number | null>((resolve) => child.once('close', resolve))
  if (stdout === '') return { mutation, seed: seeds.from, by: `the process ended with ${code}: ${stderr.trim().split('\n').at(-1)}` }
  const { failingSeeds } = JSON.parse(stdout) as { failingSeeds: { seed: number; violations: string[] }[] }
  const [first] = failingSeeds
  return first === undefined ? { mutation, seed: null, by: null } : { mutation, seed: first.seed, by: first.violations[0]!.slice(0, 200) }
}
