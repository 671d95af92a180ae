import { type CsvOptions, csvHeader, csvRow } from './csv.ts'
import type { ReportWindow } from './period.ts'
import type { ReportReader } from './read-report.ts'

export type ReportFormat = 'csv' | 'json'

export interface ReportHead {
  name: string
  description: string | undefined
  window: ReportWindow
}

/** A report as a file, in pieces. CSV: RFC 4180, UTF-8, with a header. JSON: one object, whose `rows` are objects. */
export async function* reportFile(
  reader: ReportReader,
  format: ReportFormat,
  head: ReportHead,
  options: CsvOptions,
): AsyncGenerator<string> {
  if (format === 'csv') {
    yield csvHeader(reader.columns, options)
    for await (const batch of reader.rows()) yield batch.map((row) => csvRow(reader.columns, row, options)).join('')
    return
  }
  const { slot, from, to, timezone } = head.window
  const about = {
    report: head.name,
    ...(head.description === undefined ? {} : { description: head.description }),
    slot,
    ...(from.getTime() === to.getTime() ? {} : { from, to }),
    timezone,
    columns: reader.columns.map((column) => column.name),
  }
  yield `${JSON.stringify(about).slice(0, -1)},"rows":[`
  let first = true
  for await (const batch of reader.json()) {
    yield `${first ? '' : ','}\n${batch.join(',\n')}`
    first = false
  }
  yield '\n]}\n'
}
