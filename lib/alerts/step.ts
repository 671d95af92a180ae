/*
 * What one look at a condition changes. Pure: the same looks give the same alerts, live and in a replay over history.
 */

/** When an alert fires and clears. Times in ms. */
export interface Thresholds {
  /** How long the condition must hold; 0: the first look that finds it. */
  forMs: number
  /** How long it must be over; 0: the first look that finds it well. */
  keepFiringForMs: number
}

/** One look: whether the condition holds; null where nobody can say, which neither fires nor clears. */
export type Sample = boolean | null

export interface AlertState {
  status: 'ok' | 'pending' | 'firing'
  /** When the condition was first found to hold; null while it is well. */
  since: Date | null
  /** When it was found to be over; null while it holds. Only of a firing one. */
  wellSince: Date | null
  /** How long it has been seen to hold (pending) or to be over (firing), ms. */
  seenMs: number
  /** The last look, and whether it counts towards `seenMs`. */
  lookedAt: Date | null
  counted: boolean
}

export type Change = 'firing' | 'resolved'

export const wellState: AlertState = { status: 'ok', since: null, wellSince: null, seenMs: 0, lookedAt: null, counted: false }

/** A look comes some seconds early or late: what is missing of a time by this much is not missing, ms. */
export const jitterMs = 10_000
/** One pause between two looks counts for no more than this, or half of what is waited for, ms. */
const leastPauseMs = 90_000

/**
 * The state after a look at `now`, and what it changed. Only time between two looks that both found the same counts, and of
 * one pause no more than half of what is waited for: neither a clock that jumps ahead nor an hour in which nobody looked fires or
 * clears an alert by itself. A clock that goes back counts for nothing.
 */
export function step(state: AlertState, sample: Sample, now: Date, thresholds: Thresholds): { state: AlertState; change?: Change } {
  // Of the unknown nothing counts, before and after; what was seen until then stays.
  if (sample === null) return { state: { ...state, lookedAt: now, counted: false } }
  if (state.status === 'firing') {
    if (sample) return { state: { ...state, wellSince: null, seenMs: 0, lookedAt: now, counted: false } }
    const wellSince = state.wellSince ?? now
    const seenMs = state.seenMs + pauseMs(state, now, thresholds.keepFiringForMs)
    if (seenMs + jitterMs >= thresholds.keepFiringForMs && reached(thresholds.keepFiringForMs, state.wellSince))
      return { state: { ...wellState, lookedAt: now }, change: 'resolved' }
    return { state: { ...state, wellSince, seenMs, lookedAt: now, counted: true } }
  }
  if (!sample) return { state: { ...wellState, lookedAt: now } }
  const since = state.since ?? now
  const seenMs = state.seenMs + pauseMs(state, now, thresholds.forMs)
  if (seenMs + jitterMs >= thresholds.forMs && reached(thresholds.forMs, state.since))
    return { state: { status: 'firing', since, wellSince: null, seenMs: 0, lookedAt: now, counted: false }, change: 'firing' }
  return { state: { status: 'pending', since, wellSince: null, seenMs, lookedAt: now, counted: true } }
}

/** A time that is waited for takes two looks at least, however short it is. */
function reached(waitMs: number, foundBefore: Date | null): boolean {
  return waitMs === 0 || foundBefore !== null
}

function pauseMs({ lookedAt, counted }: AlertState, now: Date, waitMs: number): number {
  if (lookedAt === null || !counted) return 0
  return Math.min(Math.max(0, now.getTime() - lookedAt.getTime()), Math.max(waitMs / 2, leastPauseMs))
}

/** How a state is kept as JSON. */
export interface StoredState {
  status: AlertState['status']
  since: string | null
  wellSince: string | null
  seenMs: number
  lookedAt: string | null
  counted: boolean
}

export function storeState(state: AlertState): StoredState {
  const iso = (at: Date | null) => at?.toISOString() ?? null
  return { ...state, since: iso(state.since), wellSince: iso(state.wellSince), lookedAt: iso(state.lookedAt) }
}

export function loadState(stored: StoredState): AlertState {
  const date = (at: string | null) => (at === null ? null : new Date(at))
  return { ...stored, since: date(stored.since), wellSince: date(stored.wellSince), lookedAt: date(stored.lookedAt) }
}
