import { Readable } from 'node:stream'
import { databaseReport, type ReportPolicy } from '../../config/index.ts'
import type { Context } from '../../platform/context.ts'
import { remainingMs } from '../../platform/context.ts'
import type { Transaction } from '../../platform/db.ts'
import { CaretakerError, sqlState } from '../../platform/errors.ts'
import type { PlanLine } from '../../platform/job.ts'
import type { Counts, PlannedChanges, Task, TaskProgress } from '../../platform/task.ts'
import { planOf } from '../explain.ts'
import { policyError } from '../issue.ts'
import { findRelation, isIssue } from '../relations.ts'
import { reading } from '../session-settings.ts'
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
      plan: (ctx, before) => planReport(ctx, name, before),
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

async function runReport(ctx: Context, name: string, progress: TaskProgress): Promise<Counts | 'hand-over'> {
  if (remainingMs(ctx) < leastMs) return 'hand-over'
  return keepReportOf(ctx, name, progress.run.slot, (counts, tx) => progress.finish(counts, tx))
}

/**
 * Reads the report of a slot and keeps it where its policy says: as an object first, which a repetition writes again, then
 * in the table, in one transaction with `finish`. Repeated, it changes nothing.
 * @throws {CaretakerError} `invalid_input` for a report that is not there or is kept nowhere, `policy_invalid` for one that does not fit
 * the database, `forbidden` naming the grants that are missing, and what `readReport` throws
 */
export async function keepReportOf(
  ctx: Context,
  name: string,
  slot: Date,
  finish: (counts: Counts, tx: Transaction) => Promise<void> = () => Promise.resolve(),
): Promise<Counts> {
  const report = findReport(ctx, name)
  const { store, into } = report
  if (store === undefined && into === undefined)
    throw new CaretakerError('invalid_input', `The report "${name}" has neither "into" nor "store": there is nowhere to keep it.`)
  const wrong = policyError((await checkReport(ctx, name, report)).filter((issue) => issue.severity === 'error'))
  if (wrong !== undefined) throw wrong
  const window = await windowOf(ctx, report, slot)
  return readReport(ctx, name, report, window, async (reader) => {
    const counts: Counts = { period: window.label }
    if (store !== undefined) {
      const objects = await ctx.objects()
      const key = objectKey(name, window, store)
      const file = Readable.from(encoded(reportFile(reader, store, { name, description: report.description, window }, {})))
      const contentType = store === 'csv' ? 'text/csv; charset=utf-8' : 'application/json'
      const stored = await objects.put(key, file, { contentType, signal: ctx.signal })
      Object.assign(counts, { object: key, bytes: stored.bytes })
    }
    if (into === undefined) return counts
    const target = await reading(ctx, (tx) => resolveReportTable(tx, into, reader.columns, `reports.${name}`))
    if (Array.isArray(target)) throw policyError(target) ?? new CaretakerError('policy_invalid', `The report "${name}" cannot be kept.`)
    if (target.problems.length > 0) throw new CaretakerError('forbidden', target.problems.join('; '))
    await keepReport(ctx, name, target, reader, async (rows, tx) => {
      counts.rows = rows
      await finish(counts, tx)
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

async function planReport(ctx: Context, name: string, before: PlannedChanges): Promise<PlanLine[]> {
  const report = findReport(ctx, name)
  const issues = await checkReport(ctx, name, report)
  const wrong = policyError(issues)
  if (wrong !== undefined) throw wrong
  const window = await windowOf(ctx, report, ctx.clock.now())
  const into = typeof report.into === 'string' ? report.into : report.into?.table
  if (into !== undefined) {
    // How many of its rows are new to the table is not counted.
    const table = await reading(ctx, (tx) => findRelation(tx, into, 'table', `reports.${name}.into`))
    if (!isIssue(table)) before.unsure.add(table.oid)
  }
  const counted = await countRows(ctx, report, window)
  const places = [
    ...(into === undefined ? [] : [`in ${into}`]),
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
