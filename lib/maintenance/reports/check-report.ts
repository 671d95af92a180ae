import type { ReportPolicy } from '../../config/index.ts'
import type { Context } from '../../platform/context.ts'
import { CaretakerError } from '../../platform/errors.ts'
import { errorAt, type Issue, warningAt } from '../issue.ts'
import { reading } from '../session-settings.ts'
import { reportSqlIssues } from './bind.ts'
import type { ReportColumn } from './csv.ts'
import { resolveReportTable } from './keep-report.ts'
import { reportWindow } from './period.ts'
import { describeReport } from './read-report.ts'

/** A report held against the live database: its query is parsed, and its columns are looked up in the table that keeps them. */
export async function checkReport(ctx: Context, name: string, report: ReportPolicy): Promise<Issue[]> {
  const path = `reports.${name}`
  const problems = reportSqlIssues(report, path)
  if (problems.length > 0) return problems
  let columns: readonly ReportColumn[]
  try {
    const window = await reading(ctx, (tx) => reportWindow(tx, ctx.clock.now(), report.period, ctx.config.app.timezone ?? 'UTC'))
    columns = await describeReport(ctx, name, report, window)
  } catch (error) {
    if (!(error instanceof CaretakerError) || error.code === 'database_unavailable') throw error
    return error.issues.length > 0
      ? error.issues.map((issue) => errorAt(issue.path, issue.message))
      : [warningAt(`${path}.sql`, error.detail)]
  }
  if (report.into === undefined) return []
  const { into } = report
  const target = await reading(ctx, (tx) => resolveReportTable(tx, into, columns, path))
  return Array.isArray(target) ? target : target.problems.map((problem) => warningAt(`${path}.into`, problem))
}
