import type { Runtime } from './compose.ts'
import type { Observe } from './http/serve.ts'
import { createRecorder } from './metrics/recorder.ts'

/** How long a flush may take, ms. */
const flushTimeMs = 10_000

/** Counts every answer of a process among the metrics; nothing where there is no database. */
export function recordRequests(runtime: Runtime): Observe | undefined {
  if (runtime.env.DATABASE_URL === undefined) return undefined
  const recorder = createRecorder(() =>
    runtime.context({
      actor: { type: 'system', job: 'metrics' },
      deadline: new Date(runtime.clock.now().getTime() + flushTimeMs),
    }),
  )
  return (answered, invocation) => recorder.record(answered, (work) => invocation.waitUntil(work))
}
