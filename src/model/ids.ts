// Promises: the words that number things, parsed at the edge and branded inside; nobody else casts.
import { SwitchbackError } from './errors.ts'

/** A PostgreSQL log sequence number, in bytes of WAL. PostgreSQL only: other streams have positions. */
export type Lsn = bigint & { readonly lsn: unique symbol }

/** Counts the changes of ownership rows, one counter a migration. Below 2^53. */
export type Epoch = number

/** The epoch at which the slot's present owner took over. */
export type Tenure = number

/** A row's stamp: base of the tenure + offset in it. 64-bit, below the wall clock in microseconds (protocols.md, Aggregates). */
export type Stamp = bigint

/** 0..4095 a hash range of aggregates; from 4096 on a pin. */
export type SlotId = number

/** One tenure of a gateway process's right to serve. Every start, and every renewal after a lapse, has a new one. */
export type LeaseId = string

/** Unique for each try to commit a transaction on the target. */
export type TxnId = string

export type Owner = 'source' | 'target'

export const NO_LSN = 0n as Lsn

/** Parses `X/Y` as PostgreSQL prints it. Throws LSN_INVALID. */
export function parseLsn(text: string): Lsn {
  const match = /^([0-9A-Fa-f]{1,8})\/([0-9A-Fa-f]{1,8})$/.exec(text)
  if (!match) throw new SwitchbackError('LSN_INVALID', { text: text.slice(0, 40) })
  return ((BigInt(`0x${match[1]}`) << 32n) | BigInt(`0x${match[2]}`)) as Lsn
}

export function lsnOf(value: bigint): Lsn {
  return BigInt.asUintN(64, value) as Lsn
}

export function formatLsn(lsn: Lsn): string {
  return `${(lsn >> 32n).toString(16).toUpperCase()}/${(lsn & 0xffffffffn).toString(16).toUpperCase()}`
}
