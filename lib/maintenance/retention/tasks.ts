import type { Context } from '../../platform/context.ts'
import type { Task } from '../../platform/task.ts'
import { type Issue, issueError } from '../issue.ts'
import { planRule } from './plan-rule.ts'
import { findRule, ruleName, verbOf } from './rule.ts'
import { runRule } from './run-rule.ts'

/** The rule a job step names at `path`, or all of them, as tasks. */
export function retentionTasks(ctx: Pick<Context, 'config'>, step: number, names: 'all' | readonly string[], path: string): Task[] {
  if (names === 'all') return (ctx.config.retention ?? []).map((_, index) => ruleTask(ctx, step, index))
  return names.map((name, position) => {
    const found = findRule(ctx.config, name, `${path}.${position}`)
    return typeof found === 'number' ? ruleTask(ctx, step, found) : failingTask(`retention ${name}`, step, found)
  })
}

function failingTask(label: string, step: number, issue: Issue): Task {
  const fail = () => Promise.reject(issueError(issue))
  return { label, step, changesRows: true, run: fail, plan: fail }
}

function ruleTask(ctx: Pick<Context, 'config'>, step: number, index: number): Task {
  const rule = ctx.config.retention?.[index]
  return {
    label: rule === undefined ? `retention ${index}` : `${verbOf(rule)} ${ruleName(rule)}`,
    step,
    changesRows: true,
    run: (context, progress) => runRule(context, index, progress),
    plan: (context, before) => planRule(context, index, before),
  }
}
