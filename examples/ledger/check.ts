// Promises: what the stores say of the journal: lost, doubled, and the books. Takes rows, so that either store can be asked.
import type { JournaledWrite } from './journal.ts'

export interface LedgerRows {
  /** [id, balance, entry_count] as texts. */
  readonly accounts: Iterable<readonly [string, string, string]>
  /** [account_id, op, amount] as texts. */
  readonly entries: Iterable<readonly [string, string, string]>
  /** [account_id, kind, revision, token] as texts. */
  readonly profiles: Iterable<readonly [string, string, string, string | null]>
}

export interface LedgerReport {
  readonly acknowledged: number
  readonly refused: number
  readonly unknown: number
  /** Acknowledged and not there. */
  readonly lost: string[]
  /** There more often than sent, or there although refused. */
  readonly doubled: string[]
  /** Accounts whose balance or count is not that of their entries. */
  readonly unbalanced: string[]
  /** Unknown writes that turned out to be there. */
  readonly unknownThatHappened: number
}

export function checkLedger(writes: readonly JournaledWrite[], rows: LedgerRows): LedgerReport {
  const count = (outcome: string) => writes.filter((write) => write.outcome === outcome).length
  const books = checkBooks(rows)
  const deposits = checkDeposits(writes, books.entries)
  const profiles = checkProfiles(writes, rows.profiles)
  return {
    acknowledged: count('acknowledged'),
    refused: count('refused'),
    unknown: count('unknown'),
    lost: [...deposits.lost, ...profiles.lost],
    doubled: [...deposits.doubled, ...profiles.doubled],
    unbalanced: books.unbalanced,
    unknownThatHappened: deposits.unknownThatHappened,
  }
}

function checkBooks(rows: LedgerRows): { unbalanced: string[]; entries: Map<string, string> } {
  const sums = new Map<string, { sum: bigint; n: number }>()
  const entries = new Map<string, string>()
  for (const [account, op, amount] of rows.entries) {
    const at = sums.get(account) ?? { sum: 0n, n: 0 }
    sums.set(account, { sum: at.sum + tenThousandths(amount), n: at.n + 1 })
    entries.set(op, account)
  }
  const unbalanced: string[] = []
  for (const [id, balance, entryCount] of rows.accounts) {
    const { sum, n } = sums.get(id) ?? { sum: 0n, n: 0 }
    if (sum !== tenThousandths(balance) || n !== Number(entryCount)) unbalanced.push(id)
  }
  return { unbalanced, entries }
}

function checkDeposits(writes: readonly JournaledWrite[], entries: ReadonlyMap<string, string>) {
  const lost: string[] = []
  const doubled: string[] = []
  let unknownThatHappened = 0
  for (const write of writes) {
    if (write.kind !== 'deposit') continue
    const there = entries.has(write.op)
    // A second entry of one op is refused by the primary key; a second booking shows in entry_count and balance.
    if (write.outcome === 'acknowledged' && !there) lost.push(write.op)
    if (write.outcome === 'refused' && there) doubled.push(write.op)
    if (write.outcome === 'unknown' && there) unknownThatHappened++
  }
  return { lost, doubled, unknownThatHappened }
}

/** Each profile write adds one to the revision: the final one says how many took effect. */
function checkProfiles(writes: readonly JournaledWrite[], profiles: LedgerRows['profiles']): { lost: string[]; doubled: string[] } {
  const sent = new Map<string, { acknowledged: number; unknown: number }>()
  for (const write of writes) {
    if (write.kind !== 'profile') continue
    const row = `${write.account}/${write.value}`
    const at = sent.get(row) ?? { acknowledged: 0, unknown: 0 }
    if (write.outcome === 'acknowledged') at.acknowledged++
    if (write.outcome === 'unknown') at.unknown++
    sent.set(row, at)
  }
  const lost: string[] = []
  const doubled: string[] = []
  for (const [account, kind, revision] of profiles) {
    const { acknowledged, unknown } = sent.get(`${account}/${kind}`) ?? { acknowledged: 0, unknown: 0 }
    if (Number(revision) < acknowledged) lost.push(`profile ${account}/${kind}: ${acknowledged - Number(revision)} of ${acknowledged}`)
    if (Number(revision) > acknowledged + unknown) doubled.push(`profile ${account}/${kind}: ${Number(revision) - acknowledged - unknown}`)
  }
  return { lost, doubled }
}

/** numeric(20, 4) as an integer of its smallest unit: no float touches money. */
function tenThousandths(text: string): bigint {
  const negative = text.startsWith('-')
  const [whole = '0', fraction = ''] = text.replace('-', '').split('.')
  const value = BigInt(whole + fraction.padEnd(4, '0').slice(0, 4))
  return negative ? -value : value
}
