// Promises: the control schema's text rows become the model's words here, and nowhere else.
import type { DebtRecord, FlipRecord, FlipState, FlipStep, PartialAck, PoisonRecord } from '../model/control.ts'
import { NO_LSN, type Owner, parseLsn } from '../model/ids.ts'
import { type Ownership, type Phase, type Pin, RoutingView, type TenureRecord } from '../model/ownership.ts'
import type { TextRow } from './session.ts'

/** The view of `switchback.view_since` merged into the one seen before. */
export function mergedView(row: TextRow, seen: RoutingView | null): RoutingView {
  const change = {
    epoch: Number(row.epoch),
    bindingEpoch: row.binding_epoch == null ? null : Number(row.binding_epoch),
    rows: ownershipRows(row.owned ?? null),
    pins: pinsOf(row.pins ?? null),
  }
  return seen === null ? new RoutingView(change) : seen.with(change)
}

function ownershipRows(text: string | null): Ownership[] {
  if (text === null) return []
  return text.split(';').map((line) => {
    const [slot, owner, phase, readOnly, epoch, tenure, base] = line.split(',')
    return {
      slot: Number(slot),
      owner: owner as Owner,
      phase: phase as Phase,
      readOnly: readOnly === '1',
      epoch: Number(epoch),
      tenure: Number(tenure),
      base: BigInt(base!),
    }
  })
}

function pinsOf(text: string | null): Pin[] {
  if (text === null) return []
  return (JSON.parse(text) as [string, number, number][]).map(([key, slot, parent]) => ({ key, slot, parent }))
}

/** `slot,tenure,owner,base[,first LSN]`, by `;`: a flip reads hundreds of them in the pause, and a row each would cost more. */
export function tenureRecords(text: string | null): TenureRecord[] {
  if (text === null) return []
  return text.split(';').map((line) => {
    const [slot, tenure, owner, base, firstLsn] = line.split(',')
    return {
      slot: Number(slot),
      tenure: Number(tenure),
      owner: owner as Owner,
      base: BigInt(base!),
      firstLsn: firstLsn === undefined ? NO_LSN : parseLsn(firstLsn),
    }
  })
}

export function flipOf(row: TextRow): FlipRecord {
  return {
    id: row.id!,
    to: row.owner_to as Owner,
    slots: row.slots!.split(',').map(Number),
    state: row.state as FlipState,
    epoch: Number(row.epoch),
    deadlineMs: Number(row.deadline_ms),
    startedAt: row.started_at!,
    steps: JSON.parse(row.steps!) as FlipStep[],
  }
}

export function sequencesOf(text: string): ReadonlyMap<number, number> {
  return new Map(Object.entries(JSON.parse(text) as Record<string, number>).map(([group, next]) => [Number(group), next]))
}

/** As `switchback.lease` keeps it. */
interface PartialText {
  readonly epoch: number
  readonly busy: readonly number[]
  readonly next: readonly (readonly [number, number])[]
  /** Group, sequence, slot. */
  readonly undecided: readonly (readonly [number, number, number])[]
}

export function partialText({ epoch, busy, nextSequences, undecided }: PartialAck): string {
  const text: PartialText = {
    epoch,
    busy: [...busy],
    next: [...nextSequences],
    undecided: [...undecided].flatMap(([group, entries]) => [...entries].map(([sequence, slot]) => [group, sequence, slot] as const)),
  }
  return JSON.stringify(text)
}

export function partialOf(text: string | null): PartialAck | null {
  if (text === null) return null
  const { epoch, busy, next, undecided } = JSON.parse(text) as PartialText
  const groups = new Map<number, Map<number, number>>()
  for (const [group, sequence, slot] of undecided) groups.set(group, (groups.get(group) ?? new Map<number, number>()).set(sequence, slot))
  return { epoch, busy: new Set(busy), nextSequences: new Map(next), undecided: groups }
}

export function debtOf(row: TextRow): DebtRecord {
  return { slot: Number(row.slot), flip: row['flip']!, tenure: Number(row.tenure) }
}

export function poisonOf(row: TextRow): PoisonRecord {
  return {
    key: row.key!,
    slot: Number(row.slot),
    tenure: Number(row.tenure),
    version: Number(row.version),
    sqlstate: row.sqlstate!,
    message: row.message!,
    retrying: row['retrying'] === 't',
  }
}
