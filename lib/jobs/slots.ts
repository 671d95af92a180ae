import { Cron } from 'croner'
import type { MissedPolicy } from '../config/index.ts'
import { CaretakerError } from '../platform/errors.ts'

export interface JobSchedule {
  /** Five fields. */
  cron: string
  /** IANA zone the fields are read in. */
  timezone: string
  /** What becomes of slots nobody claimed in time: run the last, run all, or skip them. */
  missed: MissedPolicy
}

/** The next `count` planned instants after `from`, in order. */
export function nextSlots(schedule: Pick<JobSchedule, 'cron' | 'timezone'>, from: Date, count: number): Date[] {
  return pattern(schedule).nextRuns(count, from)
}

/** The latest planned instant at or before `at`, or null when the schedule has never fired. */
export function currentSlot(schedule: Pick<JobSchedule, 'cron' | 'timezone'>, at: Date): Date | null {
  // `previousRuns` excludes its reference, and a slot is current from its very first millisecond on.
  return pattern(schedule).previousRuns(1, new Date(at.getTime() + 1_000 - (at.getTime() % 1_000)))[0] ?? null
}

/** The planned instants in (`after`, `until`], oldest first; the newest `most` of them where there are more. */
export function slotsBetween(schedule: Pick<JobSchedule, 'cron' | 'timezone'>, after: Date, until: Date, most = 1_000): Date[] {
  // Nearly always there is none, and looking for a thousand takes 50 ms a job.
  const newest = currentSlot(schedule, until)
  if (newest === null || newest <= after) return []
  const upTo = new Date(until.getTime() + 1_000 - (until.getTime() % 1_000))
  return pattern(schedule)
    .previousRuns(most, upTo)
    .filter((slot) => slot > after)
    .reverse()
}

/** @throws {CaretakerError} `policy_invalid` when the expression or the zone is not one. */
export function assertSchedule(name: string, schedule: Pick<JobSchedule, 'cron' | 'timezone'>): void {
  try {
    pattern(schedule).nextRun()
  } catch (cause) {
    throw new CaretakerError(
      'policy_invalid',
      `The schedule of "${name}" is not usable: found "${schedule.cron}" in zone "${schedule.timezone}", expected five cron fields and an IANA time zone such as "Europe/Berlin".`,
      { cause },
    )
  }
}

function pattern(schedule: Pick<JobSchedule, 'cron' | 'timezone'>): Cron {
  return new Cron(schedule.cron, { timezone: schedule.timezone, mode: '5-part', paused: true })
}
