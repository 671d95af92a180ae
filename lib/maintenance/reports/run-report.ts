import { databaseReport, nearest, type ReportPolicy } from '../../config/index.ts'
import type { Context } from '../../platform/context.ts'
import { CaretakerError } from '../../platform/errors.ts'
import { policyError } from '../issue.ts'
import { reading } from '../session-settings.ts'
import { reportSqlIssues } from './bind.ts'
import type { CsvOptions } from './csv.ts'
import { type ReportWindow, reportWindow } from './period.ts'
import { type ReportReader, readReport } from './read-report.ts'
import { type ReportFormat, reportFile } from './report-file.ts'

interface ReportRequest {
  name: string
  /** As if the planned instant were this one: the report of an earlier period. Default: now. */
  at?: Date | undefined
}

/** The report of that name. @throws {CaretakerError} `invalid_input`, with the nearest name */
export function findReport(ctx: Pick<Context, 'config'>, name: string): ReportPolicy {
  const reports = ctx.config.reports ?? {}
  const report = Object.hasOwn(reports, name) ? reports[name] : undefined
  if (report !== undefined) return report
  const known = Object.keys(reports)
  const near = nearest(name, [...known, databaseReport])
  throw new CaretakerError(
    'invalid_input',
    `There is no report "${name.slice(0, 60)}"${near === undefined ? '.' : `; did you mean "${near}"?`} ${known.length === 0 ? 'The policy has no "reports".' : `Known: ${known.join(', ')}.`}`,
  )
}

/**
 * Runs the report's query now, for `work` to read. Keeps nothing: a look at a report changes nothing.
 * @throws {CaretakerError} `invalid_input`, and what `readReport` throws
 */
export async function openReport<T>(
  ctx: Context,
  request: ReportRequest,
  work: (reader: ReportReader, window: ReportWindow, report: ReportPolicy) => Promise<T>,
): Promise<T> {
  const report = findReport(ctx, request.name)
  const wrong = policyError(reportSqlIssues(report, `reports.${request.name}`))
  if (wrong !== undefined) throw wrong
  const window = await windowOf(ctx, report, request.at ?? ctx.clock.now())
  return readReport(ctx, request.name, report, window, (reader) => work(reader, window, report))
}

/** What a report of that slot is about. */
export function windowOf(ctx: Pick<Context, 'db' | 'config'>, report: ReportPolicy, slot: Date): Promise<ReportWindow> {
  return reading(ctx, (tx) => reportWindow(tx, slot, report.period, ctx.config.app.timezone ?? 'UTC'))
}

/** Writes the report as a file, piece by piece, to `write`. */
export async function writeReport(
  ctx: Context,
  request: ReportRequest & CsvOptions & { format: ReportFormat },
  write: (piece: string) => Promise<void>,
): Promise<void> {
  const { name, format, raw } = request
  await openReport(ctx, request, async (reader, window, report) => {
    const head = { name, description: report.description, window }
    for await (const piece of reportFile(reader, format, head, raw === undefined ? {} : { raw })) await write(piece)
  })
}

/** The first rows of the report, for a person to read. */
export async function showReport(
  ctx: Context,
  request: ReportRequest,
  most: number,
): Promise<{ window: ReportWindow; columns: string[]; rows: (string | null)[][]; more: boolean }> {
  return openReport(ctx, request, async (reader, window) => {
    const rows: (string | null)[][] = []
    for await (const batch of reader.rows()) {
      rows.push(...batch)
      if (rows.length > most) break
    }
    return { window, columns: reader.columns.map((column) => column.name), rows: rows.slice(0, most), more: rows.length > most }
  })
}
