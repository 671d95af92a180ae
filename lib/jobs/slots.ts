import { Cron } from 'croner'
import { durationMs, type MissedPolicy, type Schedule } from '../config/index.ts'
import { CaretakerError } from '../platform/errors.ts'

/** When slots are. */
export interface Timing {
  /** Five fields. */
  cron: string
  /** IANA zone the fields are read in. */
  timezone: string
}

export interface JobSchedule extends Timing {
  /** What becomes of slots that did not start in time: the last runs, all run, or none. */
  missed: MissedPolicy
  /** How late a slot may start before it counts as missed, ms. */
  startGraceMs: number
  /** How long a run may take before it overruns, ms; null: until the job's next slot, at most six hours. */
  runGraceMs: number | null
  /** How many runs of the job may be at work beside one that is. */
  overlap: number
}

export const defaultStartGraceMs = 5 * 60_000
export const longestRunGraceMs = 6 * 3_600_000

/**
 * A schedule of the policy with its defaults.
 * @throws {CaretakerError} `policy_invalid` for an expression or a zone that is none, or that never comes
 */
export function resolveSchedule(name: string, schedule: Schedule, defaultZone: string): JobSchedule {
  const full = typeof schedule === 'string' ? { cron: schedule } : schedule
  const resolved: JobSchedule = {
    cron: full.cron,
    timezone: full.timezone ?? defaultZone,
    missed: full.missed ?? 'last',
    startGraceMs: full.startGrace === undefined ? defaultStartGraceMs : durationMs(full.startGrace),
    runGraceMs: full.runGrace === undefined ? null : durationMs(full.runGrace),
    overlap: full.overlap ?? 0,
  }
  assertSchedule(name, resolved)
  return resolved
}

/** The next `count` planned instants after `from`, in order. */
export function nextSlots(timing: Timing, from: Date, count: number): Date[] {
  return pattern(timing).nextRuns(count, from)
}

/** The latest planned instant at or before `at`, or null when there was none. */
export function currentSlot(timing: Timing, at: Date): Date | null {
  // `previousRuns` excludes its reference, and a slot is current from its very first millisecond on.
  return pattern(timing).previousRuns(1, new Date(at.getTime() + 1_000 - (at.getTime() % 1_000)))[0] ?? null
}

/** The planned instants in (`after`, `until`], oldest first; the oldest `most` of them where there are more. */
export function slotsBetween(timing: Timing, after: Date, until: Date, most = 1_000): Date[] {
  const cron = pattern(timing)
  const slots: Date[] = []
  for (let slot = cron.nextRun(after); slot !== null && slot <= until && slots.length < most; slot = cron.nextRun(slot)) slots.push(slot)
  return slots
}

/** How long the run of `slot` may take, ms. */
export function runGraceMs(schedule: Timing & Pick<JobSchedule, 'runGraceMs'>, slot: Date): number {
  if (schedule.runGraceMs !== null) return schedule.runGraceMs
  const [next] = nextSlots(schedule, slot, 1)
  return next === undefined ? longestRunGraceMs : Math.min(longestRunGraceMs, next.getTime() - slot.getTime())
}

/** @throws {CaretakerError} `policy_invalid` when the expression or the zone is not one, or names a day that never comes. */
export function assertSchedule(name: string, timing: Timing): void {
  const found = `found "${timing.cron}" in zone "${timing.timezone}"`
  let next: Date | null
  try {
    next = pattern(timing).nextRun()
  } catch (cause) {
    throw new CaretakerError(
      'policy_invalid',
      `The schedule of "${name}" is not usable: ${found}, expected five cron fields and an IANA time zone such as "Europe/Berlin".`,
      { cause },
    )
  }
  if (next === null)
    throw new CaretakerError('policy_invalid', `The schedule of "${name}" is not usable: ${found}, expected a date that comes.`)
}

function pattern({ cron, timezone }: Timing): Cron {
  // As Vixie's cron and pg_cron have it: fixed times of day, lists of them too, happen once a day whatever the clocks do.
  return new Cron(cron, { timezone, mode: '5-part', fixedTimeRule: 'no-wildcard', paused: true })
}
