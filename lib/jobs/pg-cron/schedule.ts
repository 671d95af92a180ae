import { assertSchedule } from '../slots.ts'

export interface TranslatedSchedule {
  /** Null: none that a policy can have. */
  cron: string | null
  warnings: string[]
}

const nicknames: Record<string, string> = {
  '@yearly': '0 0 1 1 *',
  '@annually': '0 0 1 1 *',
  '@monthly': '0 0 1 * *',
  '@weekly': '0 0 * * 0',
  '@daily': '0 0 * * *',
  '@midnight': '0 0 * * *',
  '@hourly': '0 * * * *',
}

/** pg_cron's schedule as five fields that mean the same. */
export function translateSchedule(schedule: string, timezone: string): TranslatedSchedule {
  const text = schedule.trim().toLowerCase()
  const seconds = /^(\d+)\s*seconds?$/.exec(text)
  if (seconds !== null)
    return { cron: '* * * * *', warnings: [`it ran every ${seconds[1]} seconds; once a minute is the most there is here`] }
  if (text === '@reboot') return { cron: null, warnings: ['@reboot: there is nothing that starts; it runs on demand'] }
  const fields = (nicknames[text] ?? text).split(/\s+/)
  const [, , day = '*', , weekday = '*'] = fields
  const warnings: string[] = []
  // The last day of the month.
  if (day.includes('$')) fields[2] = day.replaceAll('$', 'L')
  // Vixie's cron wants both days to fit where one of the two begins with a star; elsewhere one is enough, here and there.
  const starred = (field: string) => field.startsWith('*') && field !== '*'
  if (day !== '*' && weekday !== '*' && (starred(day) || starred(weekday))) fields[4] = `+${weekday}`
  const cron = fields.join(' ')
  try {
    if (fields.length !== 5) throw new Error('five fields')
    assertSchedule('import', { cron, timezone })
  } catch {
    return { cron: null, warnings: [`its schedule "${schedule.slice(0, 60)}" cannot be read; it runs on demand`] }
  }
  return { cron, warnings }
}
