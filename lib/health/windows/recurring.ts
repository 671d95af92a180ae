import { durationMs, type MaintenancePolicy } from '../../config/index.ts'
import { calendarDay, instantOf, weekdayOf } from './zone-time.ts'

interface Span {
  startsAt: Date
  endsAt: Date
}

/** More of one window in one question than anybody reads. */
const most = 500
const weekdays = ['mon', 'tue', 'wed', 'thu', 'fri', 'sat', 'sun'] as const

/** When a window of the policy is open in [from, to), oldest first: whole, also where it begins before or ends after. */
export async function occurrences(window: MaintenancePolicy, defaultZone: string, from: Date, to: Date): Promise<Span[]> {
  const zone = window.timezone ?? defaultZone
  if (window.cron !== undefined && window.duration !== undefined) return byCron(window.cron, durationMs(window.duration), zone, from, to)
  const days = window.days ?? weekdays
  const [begins, ends] = [minutesOf(window.from ?? '00:00'), minutesOf(window.to ?? '00:00')]
  const spans: Span[] = []
  // One that began the day before may still be open.
  for (let day = calendarDay(zone, from) - 1; day <= calendarDay(zone, to) && spans.length < most; day++) {
    if (!days.includes(weekdays[weekdayOf(day)] as (typeof weekdays)[number])) continue
    // An hour that the clocks show twice lies within the window both times.
    const span = { startsAt: instantOf(zone, day, begins, 'first'), endsAt: instantOf(zone, ends > begins ? day : day + 1, ends, 'second') }
    // One that lies within the hour that the clocks leave out does not happen.
    if (span.startsAt < to && span.endsAt > from && span.endsAt > span.startsAt) spans.push(span)
  }
  return spans
}

async function byCron(expression: string, lengthMs: number, timezone: string, from: Date, to: Date): Promise<Span[]> {
  const { Cron } = await import('croner')
  // As jobs have it: a fixed time of day comes once a day, whatever the clocks do.
  const cron = new Cron(expression, { timezone, mode: '5-part', fixedTimeRule: 'no-wildcard', paused: true })
  const spans: Span[] = []
  for (
    let start = cron.nextRun(new Date(from.getTime() - lengthMs));
    start !== null && start < to && spans.length < most;
    start = cron.nextRun(start)
  )
    spans.push({ startsAt: start, endsAt: new Date(start.getTime() + lengthMs) })
  return spans
}

function minutesOf(time: string): number {
  const [hours = 0, minutes = 0] = time.split(':').map(Number)
  return hours * 60 + minutes
}
