import { findJob, jobs } from '../../lib/catalog.ts'
import { type Job, nextSlots } from '../../lib/jobs/index.ts'
import { checkPolicy, type Issue } from '../../lib/maintenance/index.ts'
import type { Context } from '../../lib/platform/context.ts'
import { CaretakerError, hasCode } from '../../lib/platform/errors.ts'
import type { PlanLine } from '../../lib/platform/job.ts'
import { readOnlyDatabase } from '../../lib/platform/read-only.ts'
import type { Command } from '../command.ts'

interface PlannedJob {
  name: string
  description: string
  /** When it runs next; null where it runs only when asked or when work waits for it. */
  next: Date | null
  lines: readonly PlanLine[]
}

export interface FullPlan {
  issues: readonly Issue[]
  jobs: readonly PlannedJob[]
}

/**
 * The policy held against the live database, and what each job would touch if it ran now. Changes nothing: every
 * statement is sent in a READ ONLY transaction, whatever a job's own plan does.
 */
export async function fullPlan(given: Context, all: readonly Job[]): Promise<FullPlan> {
  const ctx: Context = { ...given, db: readOnlyDatabase(given.db) }
  const issues = await checkPolicy(ctx)
  const planned: PlannedJob[] = []
  for (const job of all) {
    const next = job.schedule === null ? null : (nextSlots(job.schedule, ctx.clock.now(), 1)[0] ?? null)
    planned.push({ name: job.name, description: job.description, next, lines: await linesOf(ctx, job) })
  }
  return { issues, jobs: planned }
}

/** One job that cannot be planned (its tables are not installed, the role may not read them) must not hide the others. */
export async function linesOf(ctx: Context, job: Job): Promise<readonly PlanLine[]> {
  try {
    return await job.plan(ctx)
  } catch (error) {
    if (hasCode(error, 'database_unavailable')) throw error
    const reason = error instanceof CaretakerError ? error.detail : error instanceof Error ? error.message : 'unknown'
    return [{ action: job.name, target: job.name, count: null, unit: 'objects', warnings: [`cannot be planned: ${reason}`] }]
  }
}

const plan: Command = {
  name: 'plan',
  usage: '[JOB…]',
  summary: 'Check the policy against the database and print what each job would do now, changing nothing',
  async run({ args, context, out }) {
    const ctx = await context()
    const all = jobs(ctx.config)
    const wanted = args.length === 0 ? all : args.map((name) => findJob(all, name))
    const found = await fullPlan(ctx, wanted)
    const errors = found.issues.filter((issue) => issue.severity === 'error').length
    out.result({ ok: errors === 0, ...found }, describe(found))
    if (errors > 0) process.exitCode = 1
  },
}

export const commands: Command[] = [plan]

function describe({ issues, jobs: planned }: FullPlan): string {
  const errors = issues.filter((issue) => issue.severity === 'error').length
  const warnings = issues.length - errors
  const verdict =
    issues.length === 0
      ? 'The policy fits the database.'
      : `The policy ${errors === 0 ? 'fits the database, with' : 'does not fit the database:'} ${[plural(errors, 'error'), plural(warnings, 'warning')].filter((text) => text !== '').join(' and ')}.`
  const lines = [verdict, ...issues.map((issue) => `  ${issue.severity.padEnd(7)}  ${issue.path}: ${issue.message}`)]
  for (const job of planned) {
    lines.push(
      '',
      `${job.name}, ${job.next === null ? 'when asked' : `next ${instant(job.next)}`}: ${job.description}`,
      ...describeLines(job.lines),
    )
  }
  lines.push('', 'Nothing was changed.')
  return lines.join('\n')
}

/** What one job would touch, a line each, with its warnings below. */
export function describeLines(planned: readonly PlanLine[]): string[] {
  if (planned.length === 0) return ['           nothing to do']
  return planned.flatMap((line) => [
    `  ${amount(line).padStart(16)}  ${line.action}`,
    ...(line.warnings ?? []).map((warning) => `                  ! ${warning}`),
  ])
}

function plural(count: number, noun: string): string {
  return count === 0 ? '' : `${count} ${noun}${count === 1 ? '' : 's'}`
}

function amount({ count, unit, estimated }: PlanLine): string {
  if (count === null) return '?'
  const singular = unit === 'indexes' ? 'index' : unit.slice(0, -1)
  return `${estimated === true ? '~' : ''}${Math.round(count).toLocaleString('en')} ${count === 1 ? singular : unit}`
}

function instant(date: Date): string {
  return `${date.toISOString().slice(0, 16).replace('T', ' ')} UTC`
}
