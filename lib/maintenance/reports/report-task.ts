import { Readable } from 'node:stream'
import { databaseReport, type ReportPolicy } from '../../config/index.ts'
import type { Context } from '../../platform/context.ts'
import { remainingMs } from '../../platform/context.ts'
import { CaretakerError, sqlState } from '../../platform/errors.ts'
import type { PlanLine } from '../../platform/job.ts'
import { planOf } from '../explain.ts'
import { policyError } from '../issue.ts'
import { reading } from '../session-settings.ts'
import type { Counts, Task, TaskProgress } from '../task.ts'
import { bindReport } from './bind.ts'
import { checkReport } from './check-report.ts'
import { keepDatabaseReport } from './database/keep.ts'
import { keepReport, resolveReportTable } from './keep-report.ts'
import type { ReportWindow } from './period.ts'
import { readReport } from './read-report.ts'
import { reportFile } from './report-file.ts'
import { findReport, windowOf } from './run-report.ts'

/** One report, kept where its policy says. */
export function reportTasks(step: number, name: string): Task[] {
  const label = `report ${name}`
  if (name === databaseReport)
    return [{ label, step, changesRows: false, run: keepDatabaseReport, plan: () => Promise.resolve([databaseLine]) }]
  return [
    {
      label,
      step,
      // It waits for what the steps before it bring, and is not made of half of it.
      changesRows: true,
      run: (ctx, progress) => runReport(ctx, name, progress),
      plan: (ctx) => planReport(ctx, name),
    },
  ]
}

const databaseLine: PlanLine = {
  action: "keep the database's statistics in caretaker.database_findings",
  target: 'caretaker.database_findings',
  count: null,
  unit: 'rows',
}

/** Less than this is not worth beginning: the next invocation has its whole time. */
const leastMs = 8_000

/**
 * Reads the report of the run's slot and keeps it: as an object first, which a repetition writes again, then in the table,
 * in one transaction with the checkpoint that says it is done.
 */
async function runReport(ctx: Context, name: string, progress: TaskProgress): Promise<Counts | 'hand-over'> {
  const report = findReport(ctx, name)
  const wrong = policyError((await checkReport(ctx, name, report)).filter((issue) => issue.severity === 'error'))
  if (wrong !== undefined) throw wrong
  if (remainingMs(ctx) < leastMs) return 'hand-over'
  const window = await windowOf(ctx, report, progress.run.slot)
  return readReport(ctx, name, report, window, async (reader) => {
    const counts: Counts = { period: window.label }
    const { store, into } = report
    if (store !== undefined) {
      const objects = await ctx.objects()
      const key = objectKey(name, window, store)
      const file = Readable.from(encoded(reportFile(reader, store, { name, description: report.description, window }, {})))
      const stored = await objects.put(key, file, {
        contentType: store === 'csv' ? 'text/csv; charset=utf-8' : 'application/json',
        signal: ctx.signal,
      })
      Object.assign(counts, { object: key, bytes: stored.bytes })
    }
    if (into === undefined) return counts
    const target = await reading(ctx, (tx) => resolveReportTable(tx, into, reader.columns, `reports.${name}`))
    if (Array.isArray(target)) throw policyError(target) ?? new CaretakerError('policy_invalid', `The report "${name}" cannot be kept.`)
    if (target.problems.length > 0) throw new CaretakerError('forbidden', target.problems.join('; '))
    await keepReport(ctx, name, target, reader, async (rows, tx) => {
      counts.rows = rows
      await progress.finish(counts, tx)
    })
    return counts
  })
}

function objectKey(name: string, window: ReportWindow, format: string): string {
  return `reports/${name}/${window.label}.${format}`
}

async function* encoded(pieces: AsyncIterable<string>): AsyncGenerator<Buffer> {
  for await (const piece of pieces) yield Buffer.from(piece)
}

/** How long an exact count may take before the planner's estimate has to do, milliseconds. */
const countTimeoutMs = 15_000

async function planReport(ctx: Context, name: string): Promise<PlanLine[]> {
  const report = findReport(ctx, name)
  const issues = await checkReport(ctx, name, report)
  const wrong = policyError(issues)
  if (wrong !== undefined) throw wrong
  const window = await windowOf(ctx, report, ctx.clock.now())
  const counted = await countRows(ctx, report, window)
  const places = [
    ...(report.into === undefined ? [] : [`in ${typeof report.into === 'string' ? report.into : report.into.table}`]),
    ...(report.store === undefined ? [] : [`as ${objectKey(name, window, report.store)}`]),
  ]
  return [
    {
      action: `keep the report ${name} of ${window.label} ${places.join(' and ')}`,
      target: places[0]?.replace(/^(in|as) /, '') ?? name,
      count: counted.count,
      unit: 'rows',
      ...(counted.estimated ? { estimated: true } : {}),
      ...(issues.length === 0 ? {} : { warnings: issues.map((issue) => issue.message) }),
    },
  ]
}

async function countRows(ctx: Context, report: ReportPolicy, window: ReportWindow): Promise<{ count: number; estimated: boolean }> {
  const bound = bindReport(report.sql)
  const values = bound.values(window)
  const zone = (tx: { query(sql: string, params: unknown[]): Promise<unknown> }) =>
    tx.query(`select set_config('timezone', $1::text, true)`, [window.timezone])
  try {
    const [row] = await reading(
      ctx,
      async (tx) => {
        await zone(tx)
        return tx.query<{ n: number }>(`select count(*)::float8 as n from (\n${bound.text}) q`, values)
      },
      countTimeoutMs,
    )
    return { count: row?.n ?? 0, estimated: false }
  } catch (error) {
    // 57014: the statement timeout.
    if (sqlState(error) !== '57014') throw error
    const plan = await reading(ctx, async (tx) => {
      await zone(tx)
      return planOf(tx, bound.text, values)
    })
    return { count: plan['Plan Rows'] ?? 0, estimated: true }
  }
}
