// Promises: what preflight says: one sentence and its remedy each.

export interface Finding {
  readonly code: string
  /** A blocker stops the move, a warning is the user's to judge, a note is only told. */
  readonly severity: 'blocker' | 'warning' | 'note'
  readonly message: string
  readonly remedy: string
}

export function blocker(code: string, message: string, remedy: string): Finding {
  return { code, severity: 'blocker', message, remedy }
}

export function warning(code: string, message: string, remedy: string): Finding {
  return { code, severity: 'warning', message, remedy }
}

export function note(code: string, message: string, remedy: string): Finding {
  return { code, severity: 'note', message, remedy }
}
