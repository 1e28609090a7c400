import assert from 'node:assert/strict'
import { readdirSync, readFileSync } from 'node:fs'
import { resolve } from 'node:path'
import { test } from 'node:test'
import { ROOT } from '../../docs/generate.ts'
import { CATALOGUE } from '../../src/model/error-catalogue.ts'

/** Code and the object that is written with it, if it is one; nested braces one deep. */
const THROWN = /new SwitchbackError\(\s*'(\w+)'\s*,\s*(\{[^{}]*(?:\{[^{}]*\}[^{}]*)*\})/g

test('what a message leaves blank is among the details that it is thrown with', () => {
  const blank: string[] = []
  let looked = 0
  for (const file of readdirSync(resolve(ROOT, 'src'), { recursive: true, encoding: 'utf8' }).filter((name) => name.endsWith('.ts'))) {
    for (const [, code, details] of readFileSync(resolve(ROOT, 'src', file), 'utf8').matchAll(THROWN)) {
      const { message, remedy } = CATALOGUE[code as keyof typeof CATALOGUE]
      // A spread may carry anything.
      if (details!.includes('...')) continue
      looked++
      const given = new Set([...details!.matchAll(/[{,]\s*(\w+)\s*(?=[:,}])/g)].map((match) => match[1]))
      const wanted = [...`${message} ${remedy}`.matchAll(/\{(\w+)\}/g)].map((match) => match[1]!)
      for (const name of wanted) if (!given.has(name)) blank.push(`${file}: ${code} without ${name}`)
    }
  }
  assert.ok(looked > 100, `${looked} errors were looked at`)
  assert.deepEqual(blank, [])
})
