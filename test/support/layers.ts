// Promises: the import law holds, and the cruiser read the whole tree (a misconfigured one reads no module and passes).
import { readdirSync } from 'node:fs'
import { createRequire } from 'node:module'
import { cruise, type ICruiseResult } from 'dependency-cruiser'
import extractTsConfig from 'dependency-cruiser/config-utl/extract-ts-config'

const { forbidden, options } = createRequire(import.meta.url)('../../.dependency-cruiser.cjs')
const onDisk = ['src', 'examples'].flatMap((folder) =>
  readdirSync(folder, { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.ts'))
    .map((name) => `${folder}/${name}`),
)
const result = await cruise(['src', 'examples'], { ...options, ruleSet: { forbidden }, validate: true }, undefined, {
  tsConfig: extractTsConfig('tsconfig.json'),
})
const output = result.output as ICruiseResult
const read = new Set(output.modules.map((module) => module.source))
const missed = onDisk.filter((name) => !read.has(name))
for (const violation of output.summary.violations) {
  const path = violation.cycle ? ` (${violation.cycle.map((step) => step.name).join(' -> ')})` : ''
  console.error(`${violation.rule.name}: ${violation.from} -> ${violation.to}${path}`)
}
for (const name of missed) console.error(`not read by the cruiser: ${name}`)
console.log(`${onDisk.length} modules, ${output.summary.violations.length} violations of the import law`)
if (missed.length > 0 || output.summary.violations.length > 0) process.exit(1)
