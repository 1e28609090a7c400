// Promises: what clients see of a flip: 256 slots move to the target and back, again and again, under writes through two gateways, with
// every part in a process of its own as its command starts it. Counted are the writes to the moving slots whose span, from when they
// were meant to be sent to their reply, overlaps a flip; each counts with its whole span.
import { type ChildProcess, spawn } from 'node:child_process'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { Supervised } from '../examples/ledger/processes.ts'
import { Watch } from '../examples/ledger/watch.ts'
import { freePort } from '../src/app/embedded/free-port.ts'
import { placeOrder } from '../src/app/place-order.ts'
import { canarySlots } from '../src/flip/batches.ts'
import type { Owner } from '../src/model/ids.ts'
import { HASH_SLOTS, hashSlotOf } from '../src/model/key.ts'
import { controlConnector, openSession, type Session } from '../src/store/session.ts'
import { type Workplace, workplace } from './command.ts'
import { type BenchDatabase, benchDatabase, benchPostgres } from './database.ts'
import type { FlipLoadTask, FlipWrite } from './flip-load-child.ts'
import { type BenchOptions, figure, type Measured, median, peer, quantile } from './measure.ts'
import { memoryStore, withEnds } from './stores.ts'

const SLOTS = 256
const ACCOUNTS = 20_000
const WRITES_PER_SECOND = 300
const READY_MAX_MS = 60_000
/** Between two flips, so that each begins in the usual state. */
const PAUSE_MS = 300
const WARM_UP_MS = 3_000
const EXTENSION = import.meta.url.endsWith('.ts') ? '.ts' : '.js'

/** A round is a flip there and one back. */
export async function benchFlip(options: BenchOptions): Promise<Measured> {
  return withEnds(async (defer) => {
    const postgres = await benchPostgres()
    defer(() => postgres.stop())
    const store = await memoryStore()
    defer(() => store[Symbol.asyncDispose]())
    const database = await benchDatabase(postgres, 'flip', ACCOUNTS)
    const [first, second, controller] = [await freePort(), await freePort(), await freePort()]
    const place = workplace(database.name, database.url, { kind: 'memory', port: store.port }, controller)
    defer(() => place.remove())
    const processes = await startMove(place, [first, second], options, defer)
    const moving = canarySlots((SLOTS / HASH_SLOTS) * 100)
    const load = startLoad(database, [first, second], new Set(moving))
    defer(() => load.stop())
    await sleep(WARM_UP_MS, options.signal)
    const session = await openSession({ connect: controlConnector({ connectionString: database.url }), applicationName: 'bench' })
    defer(() => session.close())
    await flipThereAndBack(session, moving, options, processes)
    const watch = await Watch.open(database.url)
    const flips = await watch.flips().finally(() => watch.close())
    await load.stop()
    for (const line of await slowestFlips(session)) options.say(line)
    return figuresOf(load.writes, flips.slice(2), new Set(moving))
  })
}

async function startMove(
  place: Workplace,
  ports: readonly number[],
  options: BenchOptions,
  defer: (end: () => unknown) => void,
): Promise<readonly Supervised[]> {
  options.say('init, two gateways, a controller, backfill')
  await place.run(['init'], options.signal)
  const started = ports.map(
    (port, i) => new Supervised(`gateway-${i + 1}`, ['gateway', '--port', String(port), '--name', `gateway-${i + 1}`], place.command),
  )
  started.push(new Supervised('controller', ['controller', '--name', 'controller'], place.command))
  defer(() => Promise.all(started.map((process) => process.stop())))
  await place.run(['backfill'], options.signal)
  const deadlineMs = performance.now() + READY_MAX_MS
  while ((await place.run(['status'], options.signal)).result['readyForCanary'] !== true) {
    if (performance.now() > deadlineMs) throw new Error(`not ready within ${READY_MAX_MS} ms: ${logsOf(started)}`)
    await sleep(200, options.signal)
  }
  return started
}

async function flipThereAndBack(
  session: Session,
  slots: readonly number[],
  options: BenchOptions,
  processes: readonly Supervised[],
): Promise<void> {
  const flip = async (to: Owner) => {
    const job = await placeOrder(session, { kind: 'move', to, slots, readOnlyFirst: false }, () => undefined, options.signal)
    if (job.state !== 'done')
      throw new Error(`a flip to the ${to} ended as ${job.state}: ${JSON.stringify(job.result)} ${logsOf(processes)}`)
    await sleep(PAUSE_MS, options.signal)
  }
  // The first ones arm the guard and warm every process up; they are not counted.
  for (let round = -1; round < options.rounds; round++) {
    options.signal.throwIfAborted()
    await flip('target')
    await flip('source')
    if (round >= 0 && (round + 1) % 10 === 0) options.say(`${round + 1} of ${options.rounds} times there and back`)
  }
}

/** The steps of the longest flips in each direction, for who asks where the time went. */
async function slowestFlips(session: Session): Promise<string[]> {
  const rows = await session.query(
    `select format('%s to %s:', round(total), owner_to) || (select string_agg(format(' %s %s', s->>'step', round((s->>'ms')::numeric)), '' order by o)
              from jsonb_array_elements(steps) with ordinality as e (s, o)) as line
       from (select *, row_number() over (partition by owner_to order by total desc) as place
               from (select f.*, (select sum((s->>'ms')::numeric) from jsonb_array_elements(f.steps) with ordinality as e (s, o) where o > 2) as total
                       from switchback.flip f where state = 'routed' order by number offset 2) as timed) as ranked
      where place <= 8 order by owner_to, place`,
  )
  return rows.map((row) => row['line']!)
}

interface FlipWindow {
  readonly to: string
  readonly startMs: number
  readonly endMs: number
}

function figuresOf(writes: readonly FlipWrite[], flips: readonly FlipWindow[], moving: ReadonlySet<number>): Measured {
  const onMoving = writes.filter(([account]) => moving.has(hashSlotOf(String(account))))
  const pausesOf = (windows: readonly FlipWindow[]) =>
    windows.flatMap(({ startMs, endMs }) =>
      onMoving
        .filter(([, intended, replied]) => intended <= endMs && replied >= startMs)
        .map(([, intended, replied]) => replied - intended),
    )
  const out = flips.filter(({ to }) => to === 'target')
  const home = flips.filter(({ to }) => to === 'source')
  const [all, outward, homeward] = [pausesOf(flips), pausesOf(out), pausesOf(home)]
  const inAnyFlip = ([, intended, replied]: FlipWrite) => flips.some(({ startMs, endMs }) => intended <= endMs && replied >= startMs)
  const outside = writes.filter((write) => !inAnyFlip(write)).map(([, intended, replied]) => replied - intended)
  return {
    figures: {
      pauseP99Ms: figure(quantile(all, 0.99), 'ms', { atMost: 50 }),
      pauseMaxMs: figure(Math.max(...all), 'ms', { atMost: 500 }),
      pauseP50Ms: figure(median(all), 'ms'),
      toTargetP99Ms: figure(quantile(outward, 0.99), 'ms'),
      toTargetMaxMs: figure(Math.max(...outward), 'ms'),
      toSourceP99Ms: figure(quantile(homeward, 0.99), 'ms'),
      toSourceMaxMs: figure(Math.max(...homeward), 'ms'),
      flips: figure(flips.length, 'flips'),
      writesInFlips: figure(all.length, 'writes'),
      writesFailed: figure(writes.filter(([, , , failed]) => failed !== null).length, 'writes'),
      flipWindowP50Ms: figure(median(flips.map(({ startMs, endMs }) => endMs - startMs)), 'ms'),
      flipWindowMaxMs: figure(Math.max(...flips.map(({ startMs, endMs }) => endMs - startMs)), 'ms'),
    },
    peers: { outsideP50Ms: peer(median(outside), 'ms'), outsideP99Ms: peer(quantile(outside, 0.99), 'ms') },
  }
}

function startLoad(database: BenchDatabase, ports: readonly number[], moving: ReadonlySet<number>) {
  const accounts = Array.from({ length: ACCOUNTS }, (_, i) => i + 1)
  const isMoving = (account: number) => moving.has(hashSlotOf(String(account)))
  const task: FlipLoadTask = {
    urls: ports.map((port) => database.url.replace(/@[^/]+\//, `@127.0.0.1:${port}/`)),
    perSecond: WRITES_PER_SECOND,
    moving: accounts.filter(isMoving),
    staying: accounts.filter((account) => !isMoving(account)),
    connectionsPerUrl: 24,
  }
  const file = fileURLToPath(new URL(`./flip-load-child${EXTENSION}`, import.meta.url))
  const child: ChildProcess = spawn(process.execPath, [...process.execArgv, file, JSON.stringify(task)], {
    stdio: ['pipe', 'pipe', 'inherit'],
  })
  child.stdin!.on('error', () => undefined)
  const writes: FlipWrite[] = []
  createInterface({ input: child.stdout! }).on('line', (line) => writes.push(JSON.parse(line) as FlipWrite))
  const closed = new Promise<void>((resolve) => child.once('close', () => resolve()))
  return {
    writes,
    async stop() {
      child.stdin!.end()
      const deadline = setTimeout(() => child.kill('SIGKILL'), 70_000)
      await closed
      clearTimeout(deadline)
    },
  }
}

function logsOf(processes: readonly Supervised[]): string {
  return processes.map((process) => `--- ${process.name}\n${process.log.slice(-2_000)}`).join('\n')
}

function sleep(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    signal.throwIfAborted()
    const onAbort = () => {
      clearTimeout(timer)
      reject(signal.reason as Error)
    }
    const timer = setTimeout(() => {
      signal.removeEventListener('abort', onAbort)
      resolve()
    }, ms)
    signal.addEventListener('abort', onAbort, { once: true })
  })
}
