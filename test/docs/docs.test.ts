import assert from 'node:assert/strict'
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { dirname, relative, resolve } from 'node:path'
import { test } from 'node:test'
import { generatedPages, ROOT } from '../../docs/generate.ts'
import { COMMANDS } from '../../src/cli/commands.ts'
import { CATALOGUE } from '../../src/model/error-catalogue.ts'

const read = (path: string) => readFileSync(resolve(ROOT, path), 'utf8')
const filesIn = (folder: string, extension: string) =>
  readdirSync(resolve(ROOT, folder), { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith(extension))
    .map((name) => `${folder}/${name}`)

const pages = ['README.md', 'ARCHITECTURE.md', 'CONTRIBUTING.md', 'CHANGELOG.md', ...filesIn('docs', '.md')]
const sources = filesIn('src', '.ts').map((path) => read(path))

test('generated pages are as the code makes them (npm run docs)', async () => {
  const stale = (await generatedPages()).filter(({ path, text }) => !existsSync(resolve(ROOT, path)) || read(path) !== text)
  assert.deepEqual(
    stale.map(({ path }) => path),
    [],
  )
})

test('the page of errors has every code of the catalogue once, and no other', () => {
  const onPage = [...read('docs/reference/errors.md').matchAll(/^### (\S+)$/gm)].map((match) => match[1]!)
  assert.deepEqual(onPage.toSorted(), Object.keys(CATALOGUE).toSorted())
})

test('every code that the source throws is in the catalogue', () => {
  const thrown = sources.flatMap((text) => [...text.matchAll(/new SwitchbackError\(\s*'(\w+)'/g)].map((match) => match[1]!))
  assert.ok(thrown.length > 50, 'the source was read')
  assert.deepEqual([...new Set(thrown)].filter((code) => !(code in CATALOGUE)).toSorted(), [])
})

test('the page of findings has every code that preflight gives, and no other', () => {
  const given = filesIn('src/source', '.ts')
    .filter((path) => path.includes('preflight'))
    .flatMap((path) => [...read(path).matchAll(/\b(?:blocker|warning|note)\(\s*'([A-Z_]+)'/g)].map((match) => match[1]!))
  const onPage = [...read('docs/reference/findings.md').matchAll(/`([A-Z_]{5,})`/g)].map((match) => match[1]!)
  assert.deepEqual([...new Set(onPage)].toSorted(), [...new Set(given)].toSorted())
})

test('no page names an error code that nothing gives', () => {
  const known = new Set([
    ...Object.keys(CATALOGUE),
    ...sources.flatMap((text) => [...text.matchAll(/'([A-Z]+(?:_[A-Z]+)+)'/g)].map((match) => match[1]!)),
    // Variables of the environment, and what the entry of the program prints by itself.
    ...['AWS_ACCESS_KEY_ID', 'AWS_SECRET_ACCESS_KEY', 'AWS_SESSION_TOKEN', 'DATABASE_URL', 'SWITCHBACK_LOG', 'OUTPUT_FAILED'],
  ])
  const unknown = pages.flatMap((page) =>
    [...read(page).matchAll(/`([A-Z]+(?:_[A-Z]+)+)`/g)].filter(([, code]) => !known.has(code!)).map(([, code]) => `${page}: ${code}`),
  )
  assert.deepEqual(unknown, [])
})

test('every relative link leads to a page, and to a heading that it has', () => {
  const broken = pages.flatMap((page) =>
    [...withoutCode(read(page)).matchAll(/\]\(([^)\s]+)\)/g)]
      .map((match) => match[1]!)
      .filter((link) => !/^[a-z]+:/.test(link))
      .filter((link) => !leads(page, link))
      .map((link) => `${page}: ${link}`),
  )
  assert.deepEqual(broken, [])
})

test('every page of docs is reached from its index, and every command has a page', () => {
  const index = read('docs/README.md')
  const linked = [...index.matchAll(/\]\(([^)#]+)/g)].map((match) => relative(ROOT, resolve(ROOT, 'docs', match[1]!)))
  const missing = filesIn('docs', '.md').filter((page) => page !== 'docs/README.md' && !linked.includes(page))
  assert.deepEqual(missing, [])
  assert.deepEqual(
    [...COMMANDS.keys()].map((name) => `docs/operating/${name}.md`).filter((page) => !linked.includes(page)),
    [],
  )
})

test('every file that ARCHITECTURE.md names is there', () => {
  const text = read('ARCHITECTURE.md')
  const named = [...text.matchAll(/`((?:src|test)\/[\w./-]+|(?:store|source|gateway|commit|sync|flip|parity|app|sql)\/[\w-]+\.ts)`/g)].map(
    (match) => match[1]!,
  )
  assert.ok(named.length > 20, 'names were found')
  assert.deepEqual(
    named.filter((path) => !existsSync(resolve(ROOT, path)) && !existsSync(resolve(ROOT, 'src', path))),
    [],
  )
})

test('the README says the two commands', () => {
  const readme = read('README.md')
  assert.ok(readme.includes('npm run demo'))
  assert.ok(readme.includes('npm test'))
})

function withoutCode(text: string): string {
  return text.replace(/```[\s\S]*?```/g, '').replace(/`[^`\n]*`/g, '')
}

function leads(page: string, link: string): boolean {
  const [path = '', heading] = link.split('#')
  const file = path === '' ? resolve(ROOT, page) : resolve(ROOT, dirname(page), path)
  if (!existsSync(file)) return false
  if (heading === undefined) return true
  const headings = [...readFileSync(file, 'utf8').matchAll(/^#+ (.+)$/gm)].map((match) => anchor(match[1]!))
  return headings.includes(heading)
}

function anchor(heading: string): string {
  return heading
    .toLowerCase()
    .replace(/[^\w\- ]/g, '')
    .replaceAll(' ', '-')
}
