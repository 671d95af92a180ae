import type { Context } from '../platform/context.ts'
import type { JobPlan, JobVerb } from '../platform/job.ts'
import type { JobSchedule } from './slots.ts'

/** A job as the catalogue lists it. */
export interface Job {
  name: string
  description: string
  /** Null: it runs when asked, or when `pending` finds work. */
  schedule: JobSchedule | null
  run: JobVerb
  plan: JobPlan
  /** Whether work waits for a job without a schedule; asked by every tick. */
  pending?: (ctx: Context) => Promise<boolean>
  /** Takes a share of a run that another worker has open. False when there is none to take. */
  assist?: (ctx: Context, callForHelp: () => Promise<void>) => Promise<boolean>
}
