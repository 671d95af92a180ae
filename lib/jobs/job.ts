import type { Context } from '../platform/context.ts'
import type { JobPlan, JobVerb } from '../platform/job.ts'
import type { JobSchedule } from './slots.ts'

/** A job as the catalogue lists it. */
export interface Job {
  name: string
  description: string
  /** Null: it runs when asked, or when `pending` finds work. */
  schedule: JobSchedule | null
  /** Called at the start, the end and the failure of each run. Who knows it can speak for the job: it is shown nowhere. */
  heartbeat?: string
  run: JobVerb
  plan: JobPlan
  /** Whether work waits for a job without a schedule; asked by every tick. */
  pending?: (ctx: Context) => Promise<boolean>
  /** Takes a share of a run that another worker has open. False when there is none to take. */
  assist?: (ctx: Context, callForHelp: () => Promise<void>) => Promise<boolean>
}

export type ScheduledJob = Job & { schedule: JobSchedule }

export function isScheduled(job: Job): job is ScheduledJob {
  return job.schedule !== null
}
