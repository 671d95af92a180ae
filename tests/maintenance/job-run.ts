import type { Database } from '../../lib/platform/db.ts'
import type { JobOutcome, JobRun } from '../../lib/platform/job.ts'

/** A run whose checkpoint lives in `caretaker.runs`, as the engine's does, without the engine. */
export async function openRun(db: Database, job: string, overrides: Partial<JobRun> = {}): Promise<JobRun> {
  const [row] = await db.query<{ id: string; checkpoint: unknown; slot: Date }>(
    `insert into caretaker.runs (job, slot, actor) values ($1, '2026-11-21T02:00:00Z', '{"type":"system"}')
     on conflict (job, slot) do update set attempt = caretaker.runs.attempt + 1
     returning id, checkpoint, slot`,
    [job],
  )
  if (row === undefined) throw new Error('no run')
  return {
    id: row.id,
    job,
    slot: row.slot,
    attempt: 1,
    params: {},
    checkpoint: row.checkpoint,
    async save(checkpoint, tx) {
      await (tx ?? db).execute('update caretaker.runs set checkpoint = $2::jsonb where id = $1::uuid', [row.id, JSON.stringify(checkpoint)])
    },
    shouldHandOver: () => false,
    callForHelp: () => Promise.resolve(),
    ...overrides,
  }
}

/** What each task of a finished job counted, by its label. */
export function countsOf(outcome: JobOutcome): Record<string, Record<string, unknown>> {
  if (outcome.status !== 'done') return {}
  const steps = outcome.result.steps as ({ task: string } & Record<string, unknown>)[]
  return Object.fromEntries(steps.map(({ task, ...counts }) => [task, counts]))
}
