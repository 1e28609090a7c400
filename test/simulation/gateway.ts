// Promises: a gateway process: the product's lease holder, fence gate, ack loop, executor and backlog, and sessions that do with a plan what
// gateway/target-arm.ts and source-arm.ts do with a message.
import { type CommitExecutor, createExecutor } from '../../src/commit/executor.ts'
import { type Excuse, runAckLoop } from '../../src/gateway/ack-loop.ts'
import { FenceGate, type Work } from '../../src/gateway/fence-gate.ts'
import { type LeaseHolder, startLeaseHolder } from '../../src/gateway/lease-holder.ts'
import { runPartialAcks } from '../../src/gateway/partial-acks.ts'
import { SwitchbackError } from '../../src/model/errors.ts'
import type { AggregateAddress, LeaseHandle, SettledEntry, TargetTransaction } from '../../src/model/executor.ts'
import type { Ownership, RoutingView } from '../../src/model/ownership.ts'
import { SettledBacklog } from '../../src/sync/settled-backlog.ts'
import { MAPPING } from '../commit/fake-plans.ts'
import { gatewayControl } from './control.ts'
import type { Host } from './kernel.ts'
import { linkedTarget } from './linked-target.ts'
import type { Transaction } from './postgres-parts.ts'
import type { Connection } from './sessions.ts'
import { ENTRIES_PER_BUCKET, LEASE, type World } from './world.ts'

/** A transaction of a client that is open through this gateway. */
export interface OpenWork {
  readonly work: Work
  /** Ends it, the client hears of it. */
  interrupt(because: SwitchbackError): void
  /** What it has on PostgreSQL while it is idle there; null: it runs something. */
  idle: { readonly connection: Connection; readonly transaction: Transaction } | null
}

export class Gateway {
  readonly name: string
  readonly world: World
  host: Host
  gate!: FenceGate
  executor!: CommitExecutor
  backlog!: SettledBacklog
  readonly open = new Set<OpenWork>()
  /** Called once each. */
  onCrash: (() => void)[] = []
  /** Where settled entries are told as they come; the feed's. */
  tell: (told: SettledEntry) => void = () => undefined
  #holder!: LeaseHolder

  constructor(world: World, name: string) {
    this.world = world
    this.name = name
    this.host = world.kernel.host(name)
    this.start()
  }

  start(): void {
    const { kernel, postgres } = this.world
    this.host = kernel.host(this.name)
    const { host } = this
    const clock = kernel.clock(host)
    const { random } = kernel
    this.open.clear()
    const gate = new FenceGate({
      clock,
      limits: { parkedStatementsMax: 100, parkDeadlineMs: 3_000, queueBytesMax: 1 << 20 },
      unroutableReads: 'refuse',
    })
    const backlog = new SettledBacklog({ onSettled: (told) => this.tell(told) })
    const executor = createExecutor({
      target: linkedTarget(this.world, host, 'commit'),
      mapping: MAPPING,
      clock,
      random,
      flights: gate.flights,
      settled: backlog,
      txnIds: () => `t${kernel.nextId()}`,
      fifo: kernel.chance(0.7),
      limits: {
        commitDeadlineMs: 400,
        helpGraceMs: kernel.chance(0.5) ? 0 : 3,
        retryFirstMs: 4,
        retryCapMs: 30,
        rangePageRows: 2,
        entriesInFlightMax: ENTRIES_PER_BUCKET - 1,
      },
    })
    const control = gatewayControl(kernel, postgres, host)
    const viewed = (view: RoutingView, lease: LeaseHandle) => {
      gate.install(view, lease)
      executor.abortWaiters(gate.parking)
    }
    this.gate = gate
    this.backlog = backlog
    this.executor = executor
    this.#holder = startLeaseHolder({
      control,
      gateway: this.name,
      clock,
      random,
      times: LEASE,
      events: {
        renewed: (renewal, lease) => viewed(renewal.view, lease),
        viewed,
        lapsed: (lease) => {
          kernel.told(this.name, () => `lease ${lease.id} has lapsed`)
          gate.lapse()
          for (const open of [...this.open])
            if (!open.work.lease.holds()) open.interrupt(new SwitchbackError('LEASE_OVER', { lease: lease.id }))
        },
        failed: () => undefined,
      },
    })
    // Runs for as long as its host does.
    void runAckLoop({
      gate,
      control,
      executor,
      excuses: (known) => this.#excuses(known),
      clock,
      random,
      failed: () => undefined,
      signal: this.world.never,
    })
    void runPartialAcks({ gate, control, executor, clock, random, failed: () => undefined, signal: this.world.never })
    kernel.told(this.name, () => 'starts')
  }

  crash(): void {
    this.world.kernel.told(this.name, () => 'kill -9')
    this.host.dead = true
    this.world.postgres.clientDied(this.host)
    for (const call of this.onCrash.splice(0)) call()
  }

  get lease(): LeaseHandle | null {
    return this.#holder.current()
  }

  addressOf(row: Ownership, key: string): AggregateAddress {
    return { key, slot: row.slot, group: this.gate.view!.groupOf(row.slot), tenure: row.tenure, base: row.base }
  }

  /** Guard, No lock a row: whose open transactions on PostgreSQL have not touched the slots in flip. */
  async #excuses(known: ReadonlySet<Work>): Promise<readonly Excuse[]> {
    const excuses: Excuse[] = []
    for (const { work, idle } of this.open) {
      if (idle === null || known.has(work) || !this.gate.excusable(work) || idle.transaction.ended) continue
      const { pid } = idle.connection.backend
      excuses.push({ work, backend: { pid, backendStart: String(pid), virtualTransaction: idle.transaction.virtualTransaction } })
    }
    return excuses
  }

  interruptible(transaction: TargetTransaction, onInterrupt: (because: SwitchbackError) => void): (because: SwitchbackError) => void {
    return (because) => {
      if (!transaction.committing) onInterrupt(because)
    }
  }
}
