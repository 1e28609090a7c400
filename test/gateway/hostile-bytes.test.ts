// Bytes that no client and no server of good will sends: only that session ends, with one FATAL that says why where anybody can still
// hear it, and the process goes on (faults.md 32, 33).
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { eventually } from '../support/eventually.ts'
import {
  begun,
  type Client,
  DONE,
  ended,
  gatewayOver,
  heard,
  honest,
  message,
  nothingLeft,
  query,
  READY,
  ROW,
  readies,
  SYNC,
  served,
  signedIn,
  upstream,
} from './fake-upstream.ts'
import { LIMITS } from './support.ts'

const fatals = (socket: Client) => heard(socket).filter((one) => one.startsWith('FATAL'))

// ---- a client

type Bad = readonly [name: string, bytes: Buffer, says: RegExp]

/** Seen by the header, in either mode. */
const HEADERS: readonly Bad[] = [
  ['a type that does not exist', honest('\x01', 'x'), /0x1, which does not exist/],
  ['a type of the server', honest('Z', 'I'), /0x5a, which does not exist/],
  ['a length of 0', message('Q', 0), /length of 0/],
  ['a length of 3', message('Q', 3), /length of 3/],
  ['a negative length', message('Q', -1), /length of -1/],
  ['a length of two billion', message('Q', 2 ** 31 - 1), /length of 2147483647/],
  ['a Sync that is too long', message('S', 20_000), /length of 20000/],
]
const LIMITED: readonly Bad[] = [
  ['a text over its limit', message('Q', LIMITS.sqlBytesMax + 100), /sqlBytesMax/],
  ['a Bind over its limit', message('B', 200_000), /messageBytesMax/],
]
/** Their length is right, so the stream is whole: an error as PostgreSQL gives it, and the session goes on. */
const BODIES: readonly Bad[] = [
  ['a Query without an end', honest('Q', 'select 1'), /./],
  ['a Query with more behind its end', honest('Q', 'select 1\0more\0'), /./],
  ['a Parse that is cut short', Buffer.concat([honest('P', 'name\0select'), SYNC]), /./],
  ['a Bind whose counts lie', Buffer.concat([honest('B', Buffer.from([0, 0, 0, 0, 0xff, 0xff])), SYNC]), /./],
  ['a Bind with a negative length', Buffer.concat([honest('B', Buffer.from([0, 0, 0, 0, 0, 1, 0x80, 0, 0, 1, 0, 0])), SYNC]), /./],
  ['a Describe of nothing known', Buffer.concat([honest('D', 'Xname\0'), SYNC]), /./],
  ['an Execute without a limit', Buffer.concat([honest('E', '\0'), SYNC]), /./],
]

for (const bound of [false, true]) {
  describe(`a client ${bound ? 'after' : 'before'} INV-8 binds`, () => {
    test('a message that cannot be ends its session with one FATAL, and nobody else notices', async () => {
      await using fake = await upstream(() => null)
      await using at = await gatewayOver(fake, bound)
      const bystander = await signedIn(at.gateway.port)
      await served(bystander)
      for (const [name, bytes, says] of bound ? [...HEADERS, ...LIMITED] : HEADERS) {
        const socket = await signedIn(at.gateway.port)
        await served(socket)
        socket.write(bytes)
        await ended(socket)
        assert.equal(fatals(socket).length, 1, `${name}: ${heard(socket).join(', ')}`)
        assert.match(fatals(socket)[0]!, /^FATAL (08P01|54000) /, name)
        assert.match(fatals(socket)[0]!, says, name)
      }
      await served(bystander)
      bystander.destroy()
      await nothingLeft(at, fake)
    })

    test('a message that is cut short by its sender ends its session and leaves no server connection', async () => {
      await using fake = await upstream(() => null)
      await using at = await gatewayOver(fake, bound)
      for (const bytes of [query('select 1'), message('B', 5_000, 'half'), honest('d', 'copy nobody asked for')]) {
        for (const cut of [1, 4, 5, bytes.length - 1]) {
          const socket = await signedIn(at.gateway.port)
          await served(socket)
          socket.end(bytes.subarray(0, cut))
          await ended(socket)
        }
      }
      await nothingLeft(at, fake)
    })
  })
}

test('a body that lies is an error, and its session goes on', async () => {
  await using fake = await upstream(() => null)
  await using at = await gatewayOver(fake, true)
  for (const [name, bytes] of BODIES) {
    const socket = await signedIn(at.gateway.port)
    await served(socket)
    const before = readies(socket)
    socket.write(bytes)
    await eventually(() => readies(socket) === before + 1, `${name} is answered: ${heard(socket).join(', ')}`)
    const errors = heard(socket).filter((one) => /^(ERROR|FATAL)/.test(one))
    assert.equal(errors.length, 1, `${name}: ${errors}`)
    assert.match(errors[0]!, /^ERROR 08P01 /, name)
    await served(socket)
    socket.destroy()
  }
  await nothingLeft(at, fake)
})

test('a client that signs in with anything but an answer of bearable length is closed with one FATAL, before and after INV-8 binds', async () => {
  for (const bound of [false, true]) {
    await using fake = await upstream(() => null, { password: true })
    await using at = await gatewayOver(fake, bound, { loginTimeoutMs: 1_000 })
    const asked = async () => {
      const socket = await begun(at.gateway.port)
      await eventually(() => heard(socket).length === 1, 'it is asked for its password')
      return socket
    }
    for (const [bytes, says] of [
      [message('p', 1_000_000), /length of 1000000/],
      [message('p', 3), /length of 3/],
      [query('select 1'), /does not belong to sign-in/],
      [SYNC, /does not belong to sign-in/],
    ] as const) {
      const socket = await asked()
      socket.write(bytes)
      await ended(socket)
      assert.equal(fatals(socket).length, 1, heard(socket).join())
      assert.match(fatals(socket)[0]!, says)
    }
    const silent = await asked()
    await ended(silent)
    assert.match(fatals(silent)[0]!, /^FATAL .*loginTimeoutMs/)
    const honestly = await asked()
    honestly.write(honest('p', `${'x'.repeat(60_000)}\0`))
    await eventually(() => readies(honestly) === 1, 'it is let in')
    await served(honestly)
    honestly.destroy()
    await nothingLeft(at, fake)
  }
})

// ---- a server

const bare = (fields: Buffer | string) => honest('E', fields)
const SERVERS: readonly (readonly [name: string, bytes: Buffer])[] = [
  ['a length of 0', message('T', 0)],
  ['a length of 3', message('C', 3)],
  ['a negative length', message('D', -7)],
  ['a type that does not exist', honest('?', 'x')],
  ['a type of the client', honest('P', 'x')],
  ['a huge ReadyForQuery', message('Z', 40_000)],
  ['a ReadyForQuery without a status', Buffer.concat([DONE, honest('Z', '')])],
  ['a ReadyForQuery of no status', Buffer.concat([DONE, honest('Z', '?')])],
  ['an error of a gigabyte', message('E', 0x3ffffffe, 'S')],
  ['a setting that is cut short', honest('S', 'name')],
]

for (const bound of [false, true]) {
  describe(`a server ${bound ? 'after' : 'before'} INV-8 binds`, () => {
    test('a message that cannot be ends that session with one FATAL, the process goes on', async () => {
      let bytes: Buffer | null = null
      await using fake = await upstream((sql) => (sql === 'hostile' ? bytes : null))
      await using at = await gatewayOver(fake, bound)
      const bystander = await signedIn(at.gateway.port)
      for (const [name, hostile] of SERVERS) {
        bytes = hostile
        const socket = await signedIn(at.gateway.port)
        await served(socket)
        socket.write(query('hostile'))
        await ended(socket).catch((error: Error) => assert.fail(`${name}: ${error.message}, heard ${heard(socket).join(', ')}`))
        assert.equal(fatals(socket).length, 1, `${name}: ${heard(socket).join(', ')}`)
        assert.match(fatals(socket)[0]!, /^FATAL \w{5} /, name)
        await served(bystander)
      }
      bystander.destroy()
      await nothingLeft(at, fake)
    })

    test('an error without SQLSTATE, or with no field at all, is shown as it is; a frame that never comes costs no memory', async () => {
      const hostile = new Map([
        ['no code', Buffer.concat([bare('SERROR\0Mwithout a code\0\0'), READY])],
        ['nothing', Buffer.concat([bare('\0'), READY])],
        ['a row of a gigabyte', message('D', 0x3ffffffe, '\0\x01')],
      ])
      await using fake = await upstream((sql) => hostile.get(sql) ?? null)
      await using at = await gatewayOver(fake, bound)
      const socket = await signedIn(at.gateway.port)
      socket.write(query('no code'))
      await eventually(() => heard(socket).includes('ERROR no code without a code'), 'the error is shown')
      socket.write(query('nothing'))
      await eventually(() => readies(socket) === 3, 'it is answered')
      await served(socket)
      const before = process.memoryUsage().rss
      const many = await Promise.all(Array.from({ length: 20 }, () => signedIn(at.gateway.port)))
      for (const each of many) each.write(query('a row of a gigabyte'))
      await eventually(() => many.every((each) => each.received().includes('\0\x01')), 'what came of it is there')
      assert.ok(
        process.memoryUsage().rss - before < 60 * 1024 * 1024,
        `${process.memoryUsage().rss - before} bytes for 20 claims of a gigabyte`,
      )
      for (const each of [socket, ...many]) each.destroy()
      await nothingLeft(at, fake)
    })

    test('a server that closes in the middle of a message ends that session alone', async () => {
      await using fake = await upstream((sql, socket) => {
        if (sql !== 'cut') return null
        setImmediate(() => socket.end())
        return ROW.subarray(0, 6)
      })
      await using at = await gatewayOver(fake, bound)
      const bystander = await signedIn(at.gateway.port)
      const socket = await signedIn(at.gateway.port)
      await served(socket)
      socket.write(query('cut'))
      await ended(socket)
      await served(bystander)
      bystander.destroy()
      await nothingLeft(at, fake)
    })
  })
}

test('a server that does not answer with its settings is asked again by the next statement, and nothing runs meanwhile', async () => {
  const asked: string[] = []
  await using fake = await upstream((sql) => {
    const settings = sql.includes('current_schemas')
    asked.push(settings ? 'settings' : sql)
    return settings && asked.length === 1 ? Buffer.concat([ROW, DONE, READY]) : null
  })
  await using at = await gatewayOver(fake, true)
  const socket = await signedIn(at.gateway.port)
  await served(socket)
  assert.deepEqual(
    heard(socket).filter((one) => one.startsWith('ERROR')),
    ['ERROR 08P01 the PostgreSQL protocol was broken: PostgreSQL did not answer with its settings'],
  )
  await served(socket)
  assert.deepEqual(asked, ['settings', 'settings', 'select 1'])
  socket.destroy()
})
