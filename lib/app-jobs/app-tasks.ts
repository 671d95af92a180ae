import type { AppJobFunction, CallPolicy } from '../config/index.ts'
import type { Context } from '../platform/context.ts'
import type { Task } from '../platform/task.ts'
import { callApp, callLabel, planCall } from './call-app.ts'
import { functionLabel, planFunction, runFunction } from './run-function.ts'

/** The task of a step that is the app's own work: a signed call to it, or a function of the policy. */
export function appTasks(
  _ctx: Pick<Context, 'config'>,
  step: { call: CallPolicy } | { run: AppJobFunction },
  index: number,
  _path: string,
): Task[] {
  if ('call' in step) {
    const { call } = step
    return [
      {
        label: callLabel(call),
        step: index,
        changesRows: true,
        run: (ctx, progress) => callApp(ctx, call, progress),
        plan: (ctx, before) => {
          before.unknown = true
          return Promise.resolve([planCall(ctx, call)])
        },
      },
    ]
  }
  const { run } = step
  return [
    {
      label: functionLabel(run),
      step: index,
      changesRows: true,
      run: (ctx, progress) => runFunction(ctx, run, progress),
      plan: (_planning, before) => {
        before.unknown = true
        return Promise.resolve([planFunction(run)])
      },
    },
  ]
}
