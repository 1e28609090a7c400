// Promises: a random walk of the real commit engine, after the model beside the protocols: two aggregates of three pots, three
// gateways that sleep, crash and restart under leases that lapse, a network that loses, delays and doubles, flips there and back and
// cancelled, a reverse sync that judges by src/model/verdict.ts. Controller and syncs are instantaneous and never die here: their own
// tests have them. Everything follows from the seed.
import { Clients } from './walk/clients.ts'
import { Controller } from './walk/controller.ts'
import { Gateways } from './walk/gateways.ts'
import { Reverse } from './walk/reverse.ts'
import { Source } from './walk/source.ts'
import { END_MS, type Plant, World } from './walk/world.ts'

export interface WalkResult {
  readonly bad: readonly string[]
  readonly acked: number
  readonly unknown: number
  readonly refused: number
  readonly reads: number
  readonly voids: number
  readonly doubles: number
  readonly discarded: number
  readonly flips: number
  readonly crashes: number
}

const CLIENTS_PER_GATEWAY = 3
const PAIR_READERS = 4

export async function walk(seed: number, plant: Plant = {}): Promise<WalkResult> {
  const world = new World(seed, plant)
  const { time, history } = world
  const source = new Source(world)
  const gateways = new Gateways({
    world,
    started: (gateway, host) => {
      for (let i = 0; i < CLIENTS_PER_GATEWAY; i++) void clients.client(gateway, host)
    },
  })
  const clients = new Clients({ world, gateways, source })
  const reverse = new Reverse({ world, gateways, source })
  const controller = new Controller({ world, gateways, source, reverse })

  gateways.startAll()
  void controller.flips()
  void controller.faults()
  for (let i = 0; i < PAIR_READERS; i++) void clients.pairs()
  reverse.rounds()
  await time.advanceTo(END_MS + 600)
  world.calm = true
  gateways.wakeAll()
  await time.advanceTo(END_MS + 1_100)
  const home = controller.home()
  await time.advanceTo(END_MS + 2_600)
  if (!(await Promise.race([home, Promise.resolve(false)])))
    history.bad.push(`not home: ${JSON.stringify({ ...world.ownership, base: 0 })}`)
  source.compareWithTarget()
  history.check()
  return { bad: history.bad, ...history.totals(), ...world.counts }
}
