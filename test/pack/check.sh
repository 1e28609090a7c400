#!/usr/bin/env bash
# What a user installs works: the packed tarball, installed into an empty folder without install scripts, runs its command and the demo.
set -euo pipefail
cd "$(dirname "$0")/../.."
place=$(mktemp -d "${TMPDIR:-/tmp}/switchback-pack-XXXXXX")
trap 'rm -rf "$place"' EXIT
npm pack --silent --pack-destination "$place" >/dev/null
cd "$place"
tarball=$(ls ./*.tgz)
mkdir empty
cd empty
npm init --yes >/dev/null
npm install --ignore-scripts --no-audit --no-fund --silent "../$tarball"
npx --no-install switchback --help | head -n 1 | grep -qx 'Usage: switchback \[options\] \[command\]'
npx --no-install switchback --version | grep -Eqx '[0-9]+\.[0-9]+\.[0-9]+'
code=0
npx --no-install switchback status --json 2>/dev/null >status.json || code=$?
node -e "const { error } = JSON.parse(require('fs').readFileSync('status.json')); if (error.code !== 'CONFIG_MISSING') process.exit(1)"
[ "$code" = 2 ]
npx --no-install switchback demo --json >demo.json
node -e "
const report = JSON.parse(require('fs').readFileSync('demo.json'))
console.log('packed demo: ok ' + report.ok + ', ' + report.acknowledgedWrites + ' writes acknowledged, ' + report.durationMs + ' ms')
if (report.ok !== true || report.lostWrites !== 0 || report.doubledWrites !== 0) process.exit(1)"
