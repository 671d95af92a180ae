import type { CauseCode } from '../causes.ts'

/** What the history says of a check. `maintenance`: down, as was announced. `unknown`: nobody looked, or nothing is configured. */
export type HistoryStatus = 'up' | 'down' | 'maintenance' | 'unknown'

/** The name under which the app as a whole is kept: no check can have it. */
export const whole = ''

/** What a look at one check has found. */
export interface Look {
  /** Canonical name. */
  check: string
  status: HistoryStatus
  cause: CauseCode | null
  /** Null where nothing was asked. */
  durationMs: number | null
}

/** How a check stands, as stored. */
export interface HealthState {
  check: string
  status: HistoryStatus
  cause: string | null
  since: Date
  lookedAt: Date
  validUntil: Date
  durationMs: number | null
}

export interface HealthChange {
  check: string
  at: Date
  status: HistoryStatus
  cause: string | null
}

/**
 * What a look at `at` adds to the history of a check that stood as `before`: nothing where it stands as it did. Where
 * nobody looked for longer than the last look says anything about, that time is unknown, and whatever comes after begins anew.
 */
export function changesBy(before: HealthState | undefined, look: Look, at: Date): HealthChange[] {
  const now: HealthChange = { check: look.check, at, status: look.status, cause: look.cause }
  if (before === undefined) return [now]
  const gap = before.validUntil < at && before.status !== 'unknown'
  if (gap) {
    const unknown: HealthChange = { check: look.check, at: before.validUntil, status: 'unknown', cause: null }
    return look.status === 'unknown' ? [unknown] : [unknown, now]
  }
  return before.status === look.status ? [] : [now]
}

/** The state after the look. */
export function stateAfter(before: HealthState | undefined, look: Look, at: Date, validUntil: Date): HealthState {
  const last = changesBy(before, look, at).at(-1)
  return { ...look, since: last?.at ?? before?.since ?? at, lookedAt: at, validUntil }
}
