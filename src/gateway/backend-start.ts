// Promises: pg_stat_activity.backend_start as PostgreSQL prints it with DateStyle ISO in UTC, whatever the session's own settings.

/** `epoch`: extract(epoch from backend_start), seconds with six decimals. */
export function backendStartText(epoch: string): string {
  const [seconds = '0', fraction = ''] = epoch.split('.')
  const iso = new Date(Number(seconds) * 1000).toISOString()
  const micros = fraction.padEnd(6, '0').slice(0, 6).replace(/0+$/, '')
  return `${iso.slice(0, 10)} ${iso.slice(11, 19)}${micros === '' ? '' : `.${micros}`}+00`
}
