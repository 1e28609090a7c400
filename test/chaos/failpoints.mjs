// Promises: loaded before a process of ours (`--import`), it ends it by kill -9 at a named point: before or after one of its requests to
// PostgreSQL or to the target. What a process does between two of them is in its memory alone, so a death there is one at the next. The
// sources know nothing of it. A point is armed from outside: FAILPOINT_FILE ({ point, hit }: the hit-th passing, counted from the arming)
// is read at the start and at SIGUSR2. Plain JavaScript: it comes before any loader.
import { readFileSync } from 'node:fs'
import http from 'node:http'
import { syncBuiltinESMExports } from 'node:module'
import { isMainThread } from 'node:worker_threads'
import pg from 'pg'

const file = process.env['FAILPOINT_FILE']
let armed = null
let hits = 0

if (file !== undefined && isMainThread) {
  arm()
  process.on('SIGUSR2', arm)
  watchRequests()
  watchStatements()
}

function arm() {
  try {
    armed = JSON.parse(readFileSync(file, 'utf8'))
  } catch {
    armed = null // nothing is armed yet
  }
  hits = 0
}

function reach(point) {
  if (armed?.point === point && ++hits >= armed.hit) process.kill(process.pid, 'SIGKILL')
}

/** As DynamoDB's clients send: the operation in a header, the table in the body. */
function watchRequests() {
  const send = http.request
  http.request = (...args) => {
    const request = send(...args)
    const end = request.end.bind(request)
    request.end = (body, ...rest) => {
      const point = requestPoint(String(request.getHeader('x-amz-target')), String(body))
      reach(`before ${point}`)
      // The first listener of the end: the caller has not heard.
      request.prependListener('response', (reply) => reply.prependOnceListener('end', () => reach(`after ${point}`)))
      return end(body, ...rest)
    }
    return request
  }
  syncBuiltinESMExports()
}

function requestPoint(target, body) {
  const table = /"TableName":"([^"]+)"|"RequestItems":\{"([^"]+)"/.exec(body)
  return `${target.split('.').at(-1)} ${table?.[1] ?? table?.[2] ?? ''}`
}

function watchStatements() {
  const query = pg.Client.prototype.query
  pg.Client.prototype.query = function (...args) {
    const point = statementPoint(args[0])
    if (point === null) return query.apply(this, args)
    reach(`before ${point}`)
    const result = query.apply(this, args)
    if (!(result instanceof Promise)) return result
    return result.then((value) => {
      reach(`after ${point}`)
      return value
    })
  }
  // The word to PostgreSQL up to where its log is not needed any more: the forward sync's checkpoint.
  const send = pg.Connection.prototype.sendCopyFromChunk
  pg.Connection.prototype.sendCopyFromChunk = function (...args) {
    reach('before checkpoint')
    send.apply(this, args)
    reach('after checkpoint')
  }
}

/** The control schema's function, or what a transaction begins or ends with, or the table that is written, or the one of ours that is read. */
function statementPoint(first) {
  const text = typeof first === 'string' ? first : first?.text
  if (typeof text !== 'string') return null
  const called = /switchback\.([a-z_]+)\s*\(/.exec(text)?.[1]
  if (called !== undefined) return called
  const word = /^\s*(begin|commit|rollback)\b/i.exec(text)?.[1]
  if (word !== undefined) return word.toLowerCase()
  const written = /^\s*(insert into|update|delete from|merge into|with)\s+("?[\w.]+"?(\."?\w+"?)?)/i.exec(text)
  const read = /^\s*select\b.*?\bfrom (switchback\.\w+)/is.exec(text)?.[1]
  if (read !== undefined) return `select ${read}`
  return written === null ? null : `${written[1].toLowerCase()} ${written[2].replaceAll('"', '')}`
}
