import type { Schedule } from '../../lib/config/index.ts'
import { type Job, resolveSchedule, work } from '../../lib/jobs/index.ts'
import type { Context } from '../../lib/platform/context.ts'
import type { Database } from '../../lib/platform/db.ts'
import type { JobVerb } from '../../lib/platform/job.ts'

export const noop: JobVerb = async () => ({ status: 'done', result: {} })

/** A job that does nothing, unless it is given something to do. */
export function jobOf(name: string, schedule: Schedule | null, more: Partial<Job> = {}): Job {
  return {
    name,
    description: '',
    schedule: schedule === null ? null : resolveSchedule(name, schedule, 'UTC'),
    run: noop,
    plan: async () => [],
    ...more,
  }
}

/** The queue, with heartbeats that lapse after a second and retries that come at once: for one worker at a time. */
export async function hurriedQueue(ctx: Context): Promise<void> {
  await work(ctx, [])
  await ctx.db.execute('update pgboss.queue set heartbeat_seconds = 1, retry_delay = 0, retry_backoff = false')
}

/** The events since the outbox was emptied, oldest first. */
export async function eventsOf(db: Database): Promise<{ topic: string; payload: Record<string, unknown> }[]> {
  return db.query('select topic, payload from caretaker.outbox order by id')
}
