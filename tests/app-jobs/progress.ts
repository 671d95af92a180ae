import type { TaskProgress } from '../../lib/platform/task.ts'

export interface Recorded {
  inner: unknown
  finished: Record<string, number | string> | null
  saves: number
}

/** A task's view of its run, over `recorded`: what one taking saves, the next one finds. */
export function taskProgress(recorded: Recorded, overrides: Partial<TaskProgress> = {}): TaskProgress {
  return {
    label: 'the task',
    run: { id: '7d1e0a52-5f0a-4a10-9f0e-000000000001', job: 'sync', slot: new Date('2026-11-21T06:30:00Z'), attempt: 1 },
    inner: structuredClone(recorded.inner),
    counts: {},
    save(inner) {
      recorded.inner = structuredClone(inner)
      recorded.saves++
      return Promise.resolve()
    },
    finish(counts) {
      recorded.finished = counts
      return Promise.resolve()
    },
    stop: () => false,
    budgetMs: () => Number.POSITIVE_INFINITY,
    ...overrides,
  }
}

export function nothingRecorded(): Recorded {
  return { inner: null, finished: null, saves: 0 }
}
