// Promises: a process that is loaded with failpoints.mjs dies at the point that it is armed with, after so many passings, and nowhere
// else; each point that a kill may be drawn at is there in the sources.
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { testDatabase } from '../support/postgres.ts'
import { POINTS } from './points.ts'

/** Two statements of the control schema and two requests as a DynamoDB client sends them; says what it has done. */
const CHILD = `
  import http from 'node:http'
  import pg from 'pg'
  const client = new pg.Client({ connectionString: process.env.DATABASE_URL })
  await client.connect()
  const ask = (table) => new Promise((resolve, reject) => {
    const request = http.request({ port: process.env.PORT, method: 'POST', headers: { 'x-amz-target': 'DynamoDB_20120810.PutItem' } }, (reply) => {
      reply.resume()
      reply.on('end', resolve)
    })
    request.on('error', reject)
    request.end(JSON.stringify({ TableName: table }))
  })
  for (const n of [1, 2]) {
    await client.query({ text: 'select switchback.act($1)', values: [n] })
    console.log('act ' + n)
    await ask('heads')
    console.log('put ' + n)
  }
  await client.end()
`

test('it dies at the point, at that passing; what was before it is done, and what is after is not', async () => {
  await using database = await testDatabase(`
    create schema switchback;
    create table switchback.acts (n int);
    create function switchback.act(n int) returns int language sql as 'insert into switchback.acts values (n) returning n';
  `)
  let puts = 0
  const store = createServer((request, reply) => {
    request.resume()
    request.on('end', () => {
      puts++
      reply.end('{}')
    })
  })
  await new Promise<void>((resolve) => store.listen(0, '127.0.0.1', resolve))
  const { port } = store.address() as { port: number }
  const life = async (point: string, hit: number) => {
    await database.query('truncate switchback.acts')
    puts = 0
    const { signal, said } = await child({ DATABASE_URL: database.url, PORT: String(port) }, { point, hit })
    const { rows } = await database.query('select count(*)::int as n from switchback.acts')
    return [signal, rows[0].n, puts, said]
  }
  try {
    assert.deepEqual(await life('nowhere', 1), [null, 2, 2, ['act 1', 'put 1', 'act 2', 'put 2']])
    assert.deepEqual(await life('before act', 1), ['SIGKILL', 0, 0, []])
    assert.deepEqual(await life('after act', 1), ['SIGKILL', 1, 0, []])
    assert.deepEqual(await life('before PutItem heads', 1), ['SIGKILL', 1, 0, ['act 1']])
    assert.deepEqual(await life('after PutItem heads', 1), ['SIGKILL', 1, 1, ['act 1']])
    assert.deepEqual(await life('after act', 2), ['SIGKILL', 2, 1, ['act 1', 'put 1']])
  } finally {
    store.close()
  }
})

async function child(env: NodeJS.ProcessEnv, armed: object): Promise<{ signal: NodeJS.Signals | null; said: string[] }> {
  const folder = mkdtempSync(join(tmpdir(), 'switchback-failpoints-'))
  const file = join(folder, 'armed.json')
  writeFileSync(file, JSON.stringify(armed))
  const args = ['--import', new URL('./failpoints.mjs', import.meta.url).href, '--input-type=module', '--eval', CHILD]
  const started = spawn(process.execPath, args, {
    env: { ...process.env, ...env, FAILPOINT_FILE: file },
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  let text = ''
  started.stdout.on('data', (chunk: Buffer) => {
    text += chunk.toString()
  })
  const signal = await new Promise<NodeJS.Signals | null>((resolve) => started.once('close', (_, signal) => resolve(signal)))
  rmSync(folder, { recursive: true })
  return { signal, said: text.split('\n').filter((line) => line !== '') }
}

test('each statement that a kill is drawn at is one of the product', () => {
  const sources = readdirSync('src', { recursive: true, encoding: 'utf8' })
    .filter((path) => path.endsWith('.ts'))
    .map((path) => readFileSync(join('src', path), 'utf8'))
    .join('\n')
  const asked = Object.values(POINTS)
    .flat()
    .map(({ at }) => at)
    .filter((at) => /^[a-z_]+$/.test(at) && !['checkpoint', 'commit'].includes(at))
  assert.ok(asked.length > 10)
  // As a statement would call it or read from it.
  for (const name of asked) assert.match(sources, new RegExp(`switchback\\.${name}\\b`), name)
})
