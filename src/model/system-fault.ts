// Promises: whether an error that a statement was answered with is a fault of the system (PostgreSQL, the target, Switchback between
// them), which the judge counts, or the application's own, which it would have got on either store. By SQLSTATE class; pure.
//
//   fault      08 connection, outcome unknown      0A not possible here (a moved key crosses owners; PostgreSQL would have answered)
//              40 conflicts that outlasted retries 53 resources      54 limits of the system
//              57 operator intervention            58 system error   F0 configuration    XX internal error    HV foreign data
//   the application's own: every other class: 22 data, 23 constraints, 25 its transaction's state and a read-only that a person ordered,
//              42 syntax and names, 55 lock not available, P0 its own RAISE ...
//
// 57014 is a fault: a statement that was cancelled or timed out was waited for too long, and who asked for that is not told apart.
// 40001 and 40P01 of PostgreSQL are counted as those of the target are: what a client has to try again is the same to it on both.

const FAULT_CLASSES: ReadonlySet<string> = new Set(['08', '0A', '40', '53', '54', '57', '58', 'F0', 'XX', 'HV'])
/** The client broke the protocol. */
const CLIENTS_OWN: ReadonlySet<string> = new Set(['08P01'])
/** SQLSTATE is missing or is none: whoever answered that is not well (faults.md 33). */
const SQLSTATE = /^[0-9A-Z]{5}$/

export function isSystemFault(sqlstate: string): boolean {
  if (!SQLSTATE.test(sqlstate)) return true
  return FAULT_CLASSES.has(sqlstate.slice(0, 2)) && !CLIENTS_OWN.has(sqlstate)
}
