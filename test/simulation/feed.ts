// Promises: the gateways' feeds to whoever leads: connected, told again from the start on each connection, lost with a lost message.
import type { SettledEntry } from '../../src/model/executor.ts'
import type { LeaseId } from '../../src/model/ids.ts'
import type { OutboxPosition } from '../../src/sync/reverse-parts.ts'
import type { Controller, Lead } from './controller.ts'
import type { Gateway } from './gateway.ts'
import type { Host } from './kernel.ts'
import type { World } from './world.ts'

/** Within it a line that broke is seen, and made again. */
const RECONNECT_MS = 80

export class Feed {
  readonly #world: World
  readonly #gateways: readonly Gateway[]
  readonly #controllers: readonly Controller[]

  constructor(world: World, gateways: readonly Gateway[], controllers: readonly Controller[]) {
    this.#world = world
    this.#gateways = gateways
    this.#controllers = controllers
    for (const controller of controllers) controller.onPositions = (positions) => this.#passed(controller, positions)
  }

  start(): void {
    for (const gateway of this.#gateways) this.#keepConnected(gateway, null)
  }

  #keepConnected(gateway: Gateway, before: Line | null): void {
    const { kernel } = this.#world
    // The gateway's own process may have died and come again: the feed is whoever's there now.
    kernel.time.after(kernel.between(5, RECONNECT_MS), () => {
      const lead = this.#controllers.map((controller) => controller.lead).find((one) => one !== null) ?? null
      let line = before
      const lease = gateway.lease?.id ?? null
      // As its heartbeats would tell.
      const silent = line !== null && kernel.isCut(line.host.name, line.lead.host.name)
      if (line !== null && (silent || line.lost || line.host.dead || line.lead !== lead || line.lease !== lease)) {
        line.end()
        line = null
      }
      if (line === null && lead !== null && lease !== null && !gateway.host.dead) line = new Line(this.#world, gateway, lead, lease)
      this.#keepConnected(gateway, line)
    })
  }

  #passed(controller: Controller, positions: readonly OutboxPosition[]): void {
    const { kernel } = this.#world
    for (const gateway of this.#gateways) {
      const delayMs = kernel.delay(controller.host.name, gateway.host.name)
      const { backlog, host } = gateway
      if (Number.isFinite(delayMs)) kernel.on(host, delayMs, () => backlog.passed(positions))
    }
  }
}

/** One connection: in order, all that the gateway holds first. */
class Line {
  readonly host: Host
  readonly lead: Lead
  readonly lease: LeaseId
  lost = false
  readonly #world: World
  #last = 0

  constructor(world: World, gateway: Gateway, lead: Lead, lease: LeaseId) {
    this.#world = world
    this.host = gateway.host
    this.lead = lead
    this.lease = lease
    for (const told of gateway.backlog.all()) this.#send(() => lead.reverse.settled(told))
    this.#send(() => lead.reverse.feedAlive(lease, true))
    gateway.tell = (told: SettledEntry) => this.#send(() => lead.reverse.settled(told))
  }

  #send(deliver: () => void): void {
    const { kernel } = this.#world
    if (this.lost) return
    const delayMs = kernel.delay(this.host.name, this.lead.host.name)
    if (delayMs === Number.POSITIVE_INFINITY) return this.end()
    this.#last = Math.max(this.#last, kernel.now + delayMs)
    kernel.on(this.lead.host, this.#last - kernel.now, () => !this.lost && deliver())
  }

  end(): void {
    if (this.lost) return
    this.lost = true
    const { kernel } = this.#world
    kernel.on(this.lead.host, kernel.between(1, 60), () => this.lead.reverse.feedAlive(this.lease, false))
  }
}
