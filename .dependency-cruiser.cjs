// The import law of ARCHITECTURE.md. Checked in `npm run lint:layers`, which also asserts how many modules were read: a cruiser
// that silently reads none would pass every rule.
const ENGINES = ['gateway', 'commit', 'sync', 'parity', 'canary', 'flip']
const ADAPTERS = ['source', 'targets', 'store']
const only = (name, from, allowed) => ({
  name,
  severity: 'error',
  comment: `${from} may import ${allowed.join(', ')} only`,
  from: { path: `^src/${from}/` },
  to: { path: '^src/', pathNot: allowed.map((folder) => `^src/${folder}/`) },
})

module.exports = {
  forbidden: [
    { name: 'no-circular', severity: 'error', from: {}, to: { circular: true, viaOnly: { dependencyTypesNot: ['type-only'] } } },
    { name: 'no-orphans', severity: 'error', from: { orphan: true, path: '^src/', pathNot: ['^src/cli/main', 'child', 'keeper', 'worker'] }, to: {} },
    only('lib-imports-nothing', 'lib', ['lib']),
    only('model', 'model', ['lib', 'model']),
    only('wire', 'wire', ['lib', 'model', 'wire']),
    only('sql', 'sql', ['lib', 'model', 'sql']),
    ...ENGINES.filter((engine) => engine !== 'canary').map((engine) => only(`engine-${engine}`, engine, ['lib', 'model', 'wire', 'sql', engine])),
    only('engine-canary', 'canary', ['lib', 'model', 'canary']),
    ...ADAPTERS.map((adapter) => only(`adapter-${adapter}`, adapter, ['lib', 'model', 'wire', adapter])),
    only('app', 'app', ['lib', 'model', 'wire', 'sql', ...ENGINES, ...ADAPTERS, 'app']),
    {
      name: 'no-io-below',
      severity: 'error',
      comment: 'the simulator runs these folders: no sockets, files or processes',
      from: { path: '^src/(lib|model|wire|commit|sync|canary|flip)/' },
      to: { dependencyTypes: ['core'], pathNot: ['^(node:)?(crypto|buffer|assert|events)$'] },
    },
    { name: 'src-not-tests', severity: 'error', from: { path: '^(src|examples)/' }, to: { path: '^(test|bench)/' } },
    { name: 'examples-know-nothing', severity: 'error', from: { path: '^examples/ledger/(load|load-child|schema|journal|check|zipf|stores)\\.ts' }, to: { path: '^src/' } },
  ],
  options: {
    doNotFollow: { path: 'node_modules' },
    tsPreCompilationDeps: true,
    tsConfig: { fileName: 'tsconfig.json' },
    enhancedResolveOptions: { extensions: ['.ts', '.js'], exportsFields: ['exports'], conditionNames: ['import', 'node', 'default'] },
  },
}
