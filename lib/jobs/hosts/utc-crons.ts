import type { Timing } from '../slots.ts'
import { type CronFields, readCron, sorted, writeField } from './cron-fields.ts'

/*
 * Hosts read cron expressions in UTC. A job in another zone needs an expression for each offset the zone takes in the course
 * of the year; the firings too many find their slot taken. What these expressions cannot say they say too broadly.
 */

const minutesADay = 1_440

/** Plain numbers, as every host reads them: no names, and not both kinds of day, which hosts join differently or refuse. */
function isPlain({ cron }: Timing, { days, weekdays }: CronFields): boolean {
  const weekday = cron.trim().split(/\s+/)[4] ?? ''
  return /^[\d*,/\s-]+$/.test(cron) && !(days !== null && weekdays !== null) && !weekday.includes('7')
}

/**
 * Expressions in UTC whose firings include every slot of the schedule. In the one hour a year that clocks leave out, a slot
 * lies at the end of the gap and its firing comes up to an hour after it.
 */
export function utcCrons(timing: Timing): string[] {
  const fields = readCron(timing.cron)
  const offsets = offsetsOf(timing.timezone)
  if (offsets.every((offset) => offset === 0) && isPlain(timing, fields)) return [timing.cron.trim().replace(/\s+/g, ' ')]
  // Day shift → minutes of the day, UTC.
  const times = new Map<number, number[]>()
  const daily = fields.days === null && fields.weekdays === null && fields.months === null
  for (const offset of offsets)
    for (const hour of fields.hours)
      for (const minute of fields.minutes) {
        const at = hour * 60 + minute - offset
        const shift = daily ? 0 : Math.floor(at / minutesADay)
        times.set(shift, [...(times.get(shift) ?? []), ((at % minutesADay) + minutesADay) % minutesADay])
      }
  const crons: string[] = []
  for (const [shift, minutes] of [...times].sort(([a], [b]) => a - b))
    for (const time of timesOfDay(sorted(minutes))) for (const days of daysOf(fields, shift)) crons.push(`${time} ${days}`)
  return [...new Set(crons)]
}

/** How many times a day an expression fires at most. */
export function firingsADay(cron: string): number {
  const { minutes, hours } = readCron(cron)
  return minutes.length * hours.length
}

/** The same firings in expressions that each fire once a day at most. */
export function onceADay(cron: string): string[] {
  const { minutes, hours } = readCron(cron)
  const [, , ...days] = cron.split(' ')
  return hours.flatMap((hour) => minutes.map((minute) => [minute, hour, ...days].join(' ')))
}

/** Minutes of the day as minute and hour fields: hours with the same minutes together. */
function timesOfDay(minutes: readonly number[]): string[] {
  const byHour = new Map<number, number[]>()
  for (const at of minutes) {
    const hour = Math.floor(at / 60)
    byHour.set(hour, [...(byHour.get(hour) ?? []), at % 60])
  }
  const groups = new Map<string, number[]>()
  for (const [hour, inHour] of byHour) {
    const field = writeField(inHour, 0, 59)
    groups.set(field, [...(groups.get(field) ?? []), hour])
  }
  return [...groups].map(([minute, hours]) => `${minute} ${writeField(hours, 0, 23)}`)
}

/** The day fields, moved by a day where the zone's day is another one than UTC's. */
function daysOf({ days, months, weekdays, both }: CronFields, shift: number): string[] {
  const month = writeField(months === null || shift === 0 ? months : sorted(months.flatMap((one) => [one, moved(one, shift, 12)])), 1, 12)
  const monthly = days === null ? null : `${writeField(movedDays(days, shift), 1, 31)} ${month} *`
  const weekly = weekdays === null ? null : `* ${month} ${writeField(sorted(weekdays.map((day) => (day + shift + 7) % 7)), 0, 6)}`
  if (monthly !== null && weekly !== null) return both ? [weekly] : [monthly, weekly]
  return [monthly ?? weekly ?? `* ${month} *`]
}

function movedDays(days: readonly number[], shift: number): number[] {
  if (shift === 0) return [...days]
  // A month's last day is any from the 28th on.
  return sorted(
    days.flatMap((day) =>
      shift < 0 ? (day === 1 ? [28, 29, 30, 31] : [day - 1]) : day >= 28 ? [...(day < 31 ? [day + 1] : []), 1] : [day + 1],
    ),
  )
}

function moved(value: number, by: number, most: number): number {
  return ((value - 1 + by + most) % most) + 1
}

/**
 * The offsets a zone takes, minutes east of UTC, from 2026 to 2035: a fixed span, so that the same policy always gives the
 * same files.
 */
function offsetsOf(timezone: string): number[] {
  if (timezone === 'UTC') return [0]
  const format = new Intl.DateTimeFormat('en-US', { timeZone: timezone, timeZoneName: 'longOffset' })
  const found = new Set<number>()
  for (let at = Date.UTC(2026, 0, 1, 12); at < Date.UTC(2036, 0, 1); at += 86_400_000) {
    const text = format.formatToParts(at).find(({ type }) => type === 'timeZoneName')?.value ?? 'GMT'
    const [, sign, hours, minutes] = /^GMT(?:([+-])(\d\d):(\d\d))?/.exec(text) ?? []
    found.add((sign === '-' ? -1 : 1) * (Number(hours ?? 0) * 60 + Number(minutes ?? 0)))
  }
  return sorted([...found])
}
