import type { JobStep } from '../config/index.ts'
import type { Context } from '../platform/context.ts'
import { CaretakerError } from '../platform/errors.ts'
import type { Task } from '../platform/task.ts'
import { analyzeTasks } from './analyze.ts'
import { refreshTasks } from './refresh.ts'
import { reindexTasks } from './reindex.ts'
import { reportTasks } from './reports/report-task.ts'
import { retentionTasks } from './retention/tasks.ts'
import { sqlTasks } from './sql.ts'
import { vacuumTasks } from './vacuum.ts'

/** Steps whose work is the app's own: another domain makes tasks of them. */
export type AppStep = Extract<JobStep, { call: unknown } | { run: unknown }>
export type AppTasks = (ctx: Pick<Context, 'config'>, step: AppStep, index: number, path: string) => Task[]

/** For whoever runs only steps of this domain. */
export const noAppTasks: AppTasks = (_ctx, _step, _index, path) => {
  throw new CaretakerError('internal', `${path}: whoever runs this step was not told how.`)
}

/** The tasks of a job in their order, each with a label of its own. */
export function tasksOf(ctx: Pick<Context, 'config'>, steps: readonly JobStep[], appTasks: AppTasks): Task[] {
  const base = stepsPath(ctx, steps)
  const seen = new Map<string, number>()
  return steps
    .flatMap((step, index) => tasksOfStep(ctx, step, index, `${base}.${index}`, appTasks))
    .map((task) => {
      // A job may vacuum before and after: the second one is a task too.
      const times = (seen.get(task.label) ?? 0) + 1
      seen.set(task.label, times)
      return times === 1 ? task : { ...task, label: `${task.label} #${times}` }
    })
}

function tasksOfStep(ctx: Pick<Context, 'config'>, step: JobStep, index: number, path: string, appTasks: AppTasks): Task[] {
  if ('vacuum' in step) return vacuumTasks(index, step.vacuum, `${path}.vacuum`)
  if ('analyze' in step) return analyzeTasks(index, step.analyze, `${path}.analyze`)
  if ('reindex' in step) return reindexTasks(index, step.reindex, `${path}.reindex`)
  if ('refresh' in step) return refreshTasks(index, step.refresh, `${path}.refresh`)
  if ('retention' in step) return retentionTasks(ctx, index, step.retention, `${path}.retention`)
  if ('sql' in step) return sqlTasks(index, step.sql, `${path}.sql`)
  if ('report' in step) return reportTasks(index, step.report)
  return appTasks(ctx, step, index, path)
}

/** Where the steps stand in the policy; "steps" for those of a built-in job. */
export function stepsPath(ctx: Pick<Context, 'config'>, steps: readonly JobStep[]): string {
  for (const [name, job] of Object.entries(ctx.config.jobs ?? {})) if (job.steps === steps) return `jobs.${name}.steps`
  return 'steps'
}
