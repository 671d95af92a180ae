import type { JobStep } from '../config/index.ts'
import type { Context } from '../platform/context.ts'
import { CaretakerError, sqlState } from '../platform/errors.ts'
import type { PlanLine } from '../platform/job.ts'
import type { PlannedChanges } from '../platform/task.ts'
import { type AppTasks, noAppTasks, tasksOf } from './tasks.ts'

/**
 * What the steps would touch if they ran now, with counts. Everything is read in READ ONLY transactions. Rows that an
 * earlier step takes away are not counted again. A task that could not run is a line that says why.
 */
export async function planSteps(ctx: Context, steps: JobStep[], appTasks: AppTasks = noAppTasks): Promise<PlanLine[]> {
  const before: PlannedChanges = { gone: new Map(), incoming: new Map(), unsure: new Set(), unknown: false }
  const lines: PlanLine[] = []
  for (const task of tasksOf(ctx, steps, appTasks)) {
    try {
      lines.push(...(await task.plan(ctx, before)))
    } catch (error) {
      const refused = error instanceof CaretakerError ? error.code === 'policy_invalid' : sqlState(error) !== undefined
      if (!refused) throw error
      const reasons =
        error instanceof CaretakerError && error.issues.length > 0
          ? error.issues.map((issue) => `${issue.path}: ${issue.message}`)
          : [(error as Error).message]
      lines.push({
        action: task.label,
        target: task.label.slice(task.label.indexOf(' ') + 1),
        count: null,
        unit: task.changesRows ? 'rows' : 'tables',
        warnings: reasons.map((reason) => `cannot run: ${reason}`),
      })
    }
  }
  return lines
}
