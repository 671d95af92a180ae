import type { Clock } from '../../platform/clock.ts'

export type RestorePhase = 'check' | 'schema' | 'sequences' | 'rows' | 'proof' | 'indexes' | 'foreign keys' | 'statistics' | 'the rest'

/** What a phase took. Phases of different tables overlap: `busyMs` is the sum over all sessions. */
export interface PhaseTime {
  phase: RestorePhase
  /** Since this run began. */
  fromMs: number
  toMs: number
  busyMs: number
}

export class Stopwatch {
  readonly #clock: Clock
  readonly #startedMs: number
  readonly #phases = new Map<RestorePhase, PhaseTime>()

  constructor(clock: Clock) {
    this.#clock = clock
    this.#startedMs = clock.monotonicMs()
  }

  elapsedMs(): number {
    return Math.round(this.#clock.monotonicMs() - this.#startedMs)
  }

  async measure<T>(phase: RestorePhase, work: () => Promise<T>): Promise<T> {
    const fromMs = this.elapsedMs()
    try {
      return await work()
    } finally {
      const toMs = this.elapsedMs()
      const found = this.#phases.get(phase)
      if (found === undefined) this.#phases.set(phase, { phase, fromMs, toMs, busyMs: toMs - fromMs })
      else
        this.#phases.set(phase, {
          phase,
          fromMs: Math.min(found.fromMs, fromMs),
          toMs: Math.max(found.toMs, toMs),
          busyMs: found.busyMs + toMs - fromMs,
        })
    }
  }

  /** In the order in which they began. */
  phases(): PhaseTime[] {
    return [...this.#phases.values()].sort((a, b) => a.fromMs - b.fromMs)
  }
}
