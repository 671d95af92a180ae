/** The time, as an argument: tests pass a fixed one. The only place that reads the system clock. */
export interface Clock {
  now(): Date
  /** Milliseconds on a clock that never goes back, for durations. */
  monotonicMs(): number
}

export const systemClock: Clock = {
  now: () => new Date(),
  monotonicMs: () => performance.now(),
}

/** A clock that stands still at `at` until it is moved with `advance(ms)`. */
export function fixedClock(at: string | Date): Clock & { advance(ms: number): void } {
  let time = new Date(at).getTime()
  if (Number.isNaN(time)) throw new RangeError(`fixedClock: not a date: ${String(at)}`)
  return {
    now: () => new Date(time),
    monotonicMs: () => time,
    advance(ms) {
      time += ms
    },
  }
}
