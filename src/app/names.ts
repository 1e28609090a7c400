// Promises: the names of what a move makes in PostgreSQL, so that all of it is found again and removed.

export function slotNameOf(migration: string): string {
  return `switchback_${migration}`
}

export function applierRoleOf(migration: string): string {
  return `switchback_applier_${migration}`
}

/** The reverse appliers' replication origin: what it wrote does not flow back (INV-5). */
export function originNameOf(migration: string): string {
  return `switchback_${migration}`
}
