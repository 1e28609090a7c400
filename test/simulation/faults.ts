// Promises: what befalls the parts, by the seed: kill -9 and restart, suspension past a lease, cuts of links in one direction or both, clocks
// that jump, a crash of PostgreSQL. Each is counted under what was being done when it came.
import type { SlotId } from '../../src/model/ids.ts'
import type { Operation } from '../commit/fake-store.ts'
import type { Clients } from './clients.ts'
import type { Controller } from './controller.ts'
import { STEPS, type Step } from './coverage.ts'
import { Gateway } from './gateway.ts'
import { STORMY } from './kernel.ts'
import { STANDBY_LOST_MS } from './standby.ts'
import type { World } from './world.ts'

/** Of a renewal: above what its reply takes. */
const HEARS_OF_IT_MS = 6

interface Parts {
  readonly gateways: readonly Gateway[]
  readonly controllers: readonly Controller[]
  readonly clients: Clients
}

export class Faults {
  readonly #world: World
  readonly #gateways: readonly Gateway[]
  readonly #controllers: readonly Controller[]
  readonly #clients: Clients
  readonly #renewedAt = new Map<string, number>()
  #stopped = false

  constructor(world: World, { gateways, controllers, clients }: Parts) {
    this.#world = world
    this.#gateways = gateways
    this.#controllers = controllers
    this.#clients = clients
  }

  start(): void {
    const { kernel, postgres } = this.#world
    postgres.onRenewed = (lease) => this.#renewedAt.set(lease, kernel.now)
    this.#next()
  }

  /** Whoever is dead or suspended is there again. */
  stop(): void {
    this.#stopped = true
    for (const process of [...this.#gateways, ...this.#controllers]) {
      if (process.host.dead) process.start()
      process.host.until = 0
    }
    if (this.#world.postgres.down) this.#world.postgres.restart()
    if (this.#world.standby?.host.dead) this.#world.standby.start()
  }

  #next(): void {
    const { kernel } = this.#world
    kernel.time.after(kernel.between(150, 1_200), () => {
      if (this.#stopped) return
      this.#strike()
      this.#next()
    })
  }

  #strike(): void {
    const { kernel } = this.#world
    const kind = kernel.random.next()
    const process = kernel.oneOf([...this.#gateways, ...this.#controllers])
    if (kind < 0.45) this.#lieInWait(kind < 0.25 ? (victim) => this.#kill(victim) : (victim) => this.#suspend(victim), process)
    else if (kind < 0.6) this.#cut()
    else if (kind < 0.65) this.#holdReplies()
    else if (kind < 0.68) this.#holdRequests()
    else if (kind < 0.7) this.#openLate()
    else if (kind < 0.73) this.#lateWrites()
    else if (kind < 0.76) this.#helpLate()
    else if (kind < 0.81) this.#throttle()
    else if (kind < 0.85) this.#silence()
    else if (kind < 0.88) this.#jump(process)
    else if (kind < 0.92) this.#crashPostgres()
    else if (kind < 0.96) this.#crashStandby()
    else this.#slowTarget()
  }

  /** Now, or as soon as any process begins some step: the moments that matter are short. */
  #lieInWait(strike: (process: Gateway | Controller) => void, process: Gateway | Controller): void {
    const { kernel } = this.#world
    if (kernel.chance(0.3)) return strike(process)
    this.#onBegun({ step: kernel.oneOf(STEPS), kind: 'any' }, kernel.chance(0.5) ? 0 : kernel.between(0, 6), strike)
  }

  #onBegun(
    awaited: { readonly step: Step; readonly kind: 'any' | 'going home' | 'standby' },
    afterMs: number,
    strike: (process: Gateway | Controller) => void,
  ): void {
    const { kernel, coverage } = this.#world
    coverage.lying.set(awaited.kind, (step, host) => {
      if (step !== awaited.step || this.#stopped) return
      const victim = [...this.#gateways, ...this.#controllers].find((one) => one.host === host)
      if (victim === undefined) return
      coverage.lying.delete(awaited.kind)
      // Not in the middle of the step's own turn.
      kernel.time.after(afterMs, () => !this.#stopped && victim.host === host && strike(victim))
    })
  }

  #kill(process: Gateway | Controller): void {
    const { kernel } = this.#world
    if (process.host.dead) return
    this.#world.coverage.struck(`kill -9 of a ${kindOf(process)}`)
    process.crash()
    kernel.time.after(kernel.between(20, 400), () => process.host.dead && process.start())
  }

  #suspend(process: Gateway | Controller): void {
    const { kernel } = this.#world
    if (process.host.dead) return
    const ms = kernel.between(50, 1_500)
    this.#world.coverage.struck(`a ${kindOf(process)} is suspended`)
    kernel.told(process.name, () => `is suspended for ${ms.toFixed(0)} ms`)
    kernel.suspend(process.host, ms)
  }

  #cut(): void {
    const { kernel } = this.#world
    const from = kernel.oneOf([...this.#gateways, ...this.#controllers]).name
    const to = kernel.oneOf(['postgres', 'target', 'target', ...this.#controllers.map(({ name }) => name)])
    const ms = kernel.between(50, 1_200)
    this.#world.coverage.struck('a link is cut')
    const way = kernel.random.next()
    if (way < 0.7) kernel.cut(from, to, ms)
    if (way > 0.4) kernel.cut(to, from, ms)
  }

  /** A gateway hears late of a renewal that came before a flip, and then of nothing for longer than a lease. */
  #holdReplies(): void {
    const { kernel, coverage } = this.#world
    const { name } = kernel.oneOf(this.#gateways)
    this.#atStep('flip: precheck', () => {
      coverage.struck('replies of PostgreSQL are held up')
      const ms = kernel.between(50, 280)
      kernel.hold('postgres', name, ms)
      kernel.time.after(ms, () => !this.#stopped && kernel.cut(name, 'postgres', kernel.between(600, 1_200)))
    })
  }

  /** A gateway sleeps for most of a lease, its renewal comes when it has been called over, and its entries come later still. */
  #holdRequests(): void {
    const { kernel, coverage } = this.#world
    const gateway = kernel.oneOf(this.#gateways)
    this.#atStep('flip: park', () => {
      coverage.struck('requests to PostgreSQL are held up')
      kernel.suspend(gateway.host, kernel.between(150, 420))
      kernel.hold(gateway.name, 'postgres', kernel.between(540, 760))
      // And who leads hears late of what it has read meanwhile.
      if (kernel.chance(0.5)) for (const { name } of this.#controllers) kernel.hold('target', name, kernel.between(50, 760))
      this.#world.failing = { operation: 'appendEntry', untilMs: kernel.now + kernel.between(450, 800) }
    })
  }

  /** A gateway starts while a flip waits for acks, and sleeps between the row of its lease and the first renewal until it is called over. */
  #openLate(): void {
    const { kernel, postgres, coverage } = this.#world
    const gateway = kernel.oneOf(this.#gateways)
    this.#atStep('flip: park', () => {
      if (!gateway.host.dead) gateway.crash()
      gateway.start()
      const { host } = gateway
      const known = postgres.leases.size
      const look = () => {
        if (this.#stopped || gateway.host !== host || host.dead) return
        if (postgres.leases.size === known) return void kernel.time.after(1, look)
        coverage.struck('a gateway is suspended')
        kernel.suspend(host, kernel.between(560, 800))
      }
      look()
    })
  }

  /**
   * As keys are to go home: a gateway that has just renewed serves on, and neither hears nor is heard any more but by the target, where what it
   * writes comes late: before its lease is called over, and behind a page of its outbox that the leader sees after that; or once
   * its outbox was read to its end, and the leader dies as it routes.
   */
  #lateWrites(): void {
    const { kernel } = this.#world
    this.#goingHome('flip: intent', (gateway, slot) => {
      const { host } = gateway
      const at = this.#renewedAt.get(gateway.lease!.id)! + HEARS_OF_IT_MS
      kernel.time.after(Math.max(0, at - kernel.now), () => !this.#stopped && !host.dead && this.#writeLate(gateway, slot, at))
    })
  }

  /**
   * As keys are to go home: a gateway dies of which compare-and-sets took effect, and no entry came; and who meets those heads does not come
   * to read their rows before everything else is done.
   */
  #helpLate(): void {
    const { kernel } = this.#world
    this.#goingHome('flip: precheck', (gateway, slot) => {
      const { host } = gateway
      this.#world.late = { host, operations: ['appendEntry', 'putRows'], untilMs: Number.POSITIVE_INFINITY }
      this.#clients.burst(gateway, slot)
      kernel.time.after(kernel.between(10, 40), () => !this.#stopped && gateway.host === host && this.#kill(gateway))
      kernel.time.after(kernel.between(15, 45), () => !this.#stopped && this.#fail('readRows', kernel.between(500, 680)))
    })
  }

  /** The gateway that renewed last, as slots that the target has are at this step on their way home. */
  #goingHome(step: Step, strike: (gateway: Gateway, slot: SlotId) => void): void {
    const { postgres } = this.#world
    this.#onBegun({ step, kind: 'going home' }, 0, () => {
      const slot = postgres.jobs.find(({ state, to }) => state === 'open' && to === 'source')?.slots.find((one) => this.#isTargets(one))
      const renewed = (gateway: Gateway) => (gateway.host.dead ? undefined : this.#renewedAt.get(gateway.lease?.id ?? '')) ?? 0
      const gateway = this.#gateways.reduce((last, one) => (renewed(one) > renewed(last) ? one : last))
      if (slot === undefined || renewed(gateway) === 0) this.#goingHome(step, strike)
      else strike(gateway, slot)
    })
  }

  #writeLate(gateway: Gateway, slot: SlotId, renewedAt: number): void {
    const { kernel, coverage } = this.#world
    const { host } = gateway
    const agoMs = kernel.now - renewedAt
    const seen = kernel.chance(0.5)
    coverage.struck('writes to the target come late')
    this.#alone(gateway, 1_500)
    this.#world.late = {
      host,
      operations: ['appendEntry', 'compareAndSetHead', 'putRows'],
      untilMs: kernel.now - agoMs + (seen ? kernel.between(440, 485) : kernel.between(640, 760)),
    }
    kernel.time.after(kernel.between(0, 200), () => !host.dead && this.#clients.burst(gateway, slot))
    if (!seen) return this.#onBegun({ step: 'flip: route', kind: 'going home' }, kernel.between(0, 6), (leader) => this.#kill(leader))
    const fromMs = kernel.between(320, 430) - agoMs
    kernel.time.after(fromMs, () => !this.#stopped && this.#holdPages(kernel.between(640, 720) - fromMs))
  }

  #isTargets(slot: SlotId): boolean {
    const { owner, phase } = this.#world.postgres.owned(slot)
    return owner === 'target' && phase === 'steady'
  }

  /** Cut off from everything but the target. */
  #alone({ name }: Gateway, ms: number): void {
    const { kernel } = this.#world
    kernel.cut('postgres', name, ms)
    for (const to of ['postgres', ...this.#controllers.map((one) => one.name)]) kernel.cut(name, to, ms)
  }

  #holdPages(ms: number): void {
    const { kernel } = this.#world
    for (const { name } of this.#controllers) kernel.hold('target', name, ms)
  }

  /** Or now. */
  #atStep(awaited: Step, strike: () => void): void {
    const { kernel, coverage } = this.#world
    if (kernel.chance(0.3)) return strike()
    coverage.lying.set('any', (step) => {
      if (step !== awaited || this.#stopped) return
      coverage.lying.delete('any')
      kernel.time.after(kernel.between(0, 15), () => !this.#stopped && strike())
    })
  }

  #crashStandby(): void {
    const { kernel } = this.#world
    const { standby } = this.#world
    if (standby === null || standby.host.dead) return
    this.#world.coverage.struck('kill -9 of a standby')
    standby.crash()
    const again = () => !this.#stopped && standby.host.dead && standby.start()
    if (kernel.chance(0.5)) kernel.time.after(kernel.between(50, 1_500), again)
    // Gone for long enough to be struck off, and taken back while a flip is under way.
    else kernel.time.after(STANDBY_LOST_MS, () => this.#onBegun({ step: 'flip: park', kind: 'standby' }, kernel.between(0, 100), again))
  }

  /** One kind of request fails for a while, and now and then a gateway dies of it. */
  #throttle(): void {
    const { kernel } = this.#world
    const operation = kernel.oneOf(['appendEntry', 'appendEntry', 'putRows', 'compareAndSetHead', 'readRows', 'readOutbox'] as const)
    const ms = kernel.between(60, 500)
    this.#fail(operation, ms)
    if (!kernel.chance(0.5)) return
    const gateway = kernel.oneOf(this.#gateways)
    kernel.time.after(kernel.between(10, ms), () => !this.#stopped && (kernel.chance(0.6) ? this.#kill(gateway) : this.#suspend(gateway)))
  }

  #fail(operation: Operation, ms: number): void {
    const { kernel } = this.#world
    this.#world.coverage.struck('a partition of the target is throttled')
    kernel.told('target', () => `fails ${operation} for ${ms.toFixed(0)} ms`)
    this.#world.failing = { operation, untilMs: kernel.now + ms }
  }

  #silence(): void {
    const { kernel } = this.#world
    const ms = kernel.between(200, 4_000)
    this.#world.coverage.struck('the target answers nothing')
    for (const { name } of [...this.#gateways, ...this.#controllers]) {
      kernel.cut(name, 'target', ms)
      kernel.cut('target', name, ms)
    }
  }

  #jump(process: Gateway | Controller): void {
    const { kernel } = this.#world
    this.#world.coverage.struck('a clock jumps')
    const ms = kernel.jump(process.host, kernel.between(-2_000, 2_000))
    kernel.told(process.name, () => `its wall clock jumps by ${ms.toFixed(0)} ms`)
  }

  #crashPostgres(): void {
    const { kernel, postgres } = this.#world
    if (postgres.down) return
    this.#world.coverage.struck('kill -9 of PostgreSQL')
    postgres.crash()
    kernel.time.after(kernel.between(30, 500), () => postgres.down && postgres.restart())
  }

  #slowTarget(): void {
    const { kernel } = this.#world
    this.#world.coverage.struck('the target is slow')
    kernel.weather = { ...STORMY, delayMs: kernel.between(10, 40), late: 0.1 }
    kernel.time.after(kernel.between(100, 800), () => {
      if (kernel.weather.lost > 0) kernel.weather = STORMY
    })
  }
}

function kindOf(process: Gateway | Controller): 'gateway' | 'controller' {
  return process instanceof Gateway ? 'gateway' : 'controller'
}
