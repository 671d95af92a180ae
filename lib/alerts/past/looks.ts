import type { AlertSources } from '../sources.ts'
import type { Sample } from '../step.ts'

/** A stretch of history, and how far apart the looks at it are. */
export interface Span {
  from: Date
  to: Date
  stepMs: number
}

/** One look at a time that is past. */
export interface Look {
  at: Date
  value: number | null
  cause: string | null
  resolution: 'minute' | 'hour'
  sample(firing: boolean): Sample
}

/** Both ends are looked at. */
export function lookTimes({ from, to, stepMs }: Span): number[] {
  return Array.from({ length: Math.floor((to.getTime() - from.getTime()) / stepMs) + 1 }, (_, index) => from.getTime() + index * stepMs)
}

/** What the looks at one check found, by the changes of its history. */
export function checkLooks(changes: Awaited<ReturnType<AlertSources['healthChanges']>>, times: readonly number[]): Look[] {
  let next = 0
  let now: (typeof changes)[number] | undefined
  return times.map((at) => {
    while ((changes[next]?.at.getTime() ?? Number.POSITIVE_INFINITY) <= at) now = changes[next++]
    const status = now?.status ?? 'unknown'
    const sample = status === 'down' ? true : status === 'up' ? false : null
    return { at: new Date(at), value: null, cause: now?.cause ?? null, resolution: 'minute', sample: () => sample }
  })
}
