import { randomBytes } from 'node:crypto'
import { type FileHandle, link, open, rename, rm, stat } from 'node:fs/promises'
import { resolve } from 'node:path'
import { keepReportOf, reportDatabase, showReport, writeReport } from '../../lib/maintenance/index.ts'
import { usageReport } from '../../lib/metrics/index.ts'
import { CaretakerError } from '../../lib/platform/errors.ts'
import type { Command } from '../command.ts'
import { bytes, table } from '../output.ts'
import { databaseSections } from '../report-database.ts'
import { usageText } from '../report-usage.ts'
import { sinceTime } from '../since.ts'

const list: Command = {
  name: 'report list',
  summary: "The policy's reports: what each is about, and where jobs keep it",
  async run({ context, out }) {
    const { config } = await context()
    const rows = Object.entries(config.reports ?? {}).map(([name, report]) => ({
      name,
      period: report.period ?? null,
      into: report.into === undefined ? null : typeof report.into === 'string' ? report.into : report.into.table,
      store: report.store ?? null,
      description: report.description ?? null,
    }))
    out.result(
      rows,
      rows.length === 0
        ? 'The policy has no reports of its own; `caretaker report database` tells of the database.'
        : table(
            ['report', 'period', 'table', 'object', 'about'],
            rows.map((row) => [row.name, row.period, row.into, row.store, row.description]),
          ),
    )
  },
}

/** Rows of a report that a terminal is shown. */
const shown = 100

const run: Command = {
  name: 'report run',
  usage: 'NAME [--at TIME] [--format csv|json] [--out FILE] [--force] [--raw] [--keep]',
  summary: 'Run a report of the policy now and show it, write it to a file, or keep it as its job would',
  options: {
    at: { type: 'string', value: 'TIME', about: 'of the period that was complete then (ISO 8601); now unless given' },
    format: { type: 'string', value: 'FORMAT', about: 'csv (RFC 4180) or json; by the ending of FILE unless given' },
    out: { type: 'string', value: 'FILE', about: 'where to; the terminal unless given' },
    force: { type: 'boolean', about: 'overwrite the file' },
    raw: { type: 'boolean', about: 'leave values that a spreadsheet would take for formulas as they are' },
    keep: { type: 'boolean', about: 'put it where jobs put it: in its table and its object' },
  },
  async run({ args: [name], flags, context, out }) {
    if (name === undefined) throw new CaretakerError('bad_request', '`caretaker report run` takes the name of one report, found none.')
    const at = moment(flags.at)
    const format = formatOf(flags)
    if (flags.keep === true) {
      if (format !== undefined || flags.out !== undefined)
        throw new CaretakerError('bad_request', '--keep puts the report where its policy says; leave out --format and --out.')
      const ctx = await context()
      const kept = await keepReportOf(ctx, name, at ?? ctx.clock.now())
      out.result(
        { report: name, ...kept },
        `${name} of ${kept.period} is kept: ${[rowsOf(kept.rows), kept.object].filter((one) => one !== undefined).join(', ')}.`,
      )
      return
    }
    if (flags.raw === true && format !== 'csv') throw new CaretakerError('bad_request', '--raw is for CSV: add --format csv.')
    if (typeof flags.out === 'string') {
      const file = resolve(flags.out)
      const request = { name, at, format: format ?? 'csv', raw: flags.raw === true }
      const size = await intoFile(file, flags.force === true, async (write) => writeReport(await context(), request, write))
      out.result({ report: name, out: file, format: request.format, bytes: size }, `${name}: ${bytes(size)} in ${file}`)
      return
    }
    if (format === 'csv' && out.json)
      throw new CaretakerError('bad_request', '--json prints JSON; write CSV to a file with --out, or leave out --json.')
    if (format !== undefined || out.json) {
      await writeReport(await context(), { name, at, format: format ?? 'json', raw: flags.raw === true }, toTerminal)
      return
    }
    const { window, columns, rows, more } = await showReport(await context(), { name, at }, shown)
    out.result(
      rows,
      [
        `${name} of ${window.label}`,
        rows.length === 0 ? 'No rows.' : table(columns, rows),
        ...(more ? [`More than ${shown} rows: --format csv --out FILE writes all of them.`] : []),
      ].join('\n'),
    )
  },
}

const database: Command = {
  name: 'report database',
  usage: '[SECTION…]',
  summary: 'Bloat, dead rows, superfluous and missing indexes, slow statements, wraparound, long transactions',
  async run({ args, context, out }) {
    const report = await reportDatabase(await context())
    const names = report.sections.map((section) => section.name)
    const unknown = args.find((name) => !names.includes(name))
    if (unknown !== undefined) throw new CaretakerError('invalid_input', `There is no section "${unknown}". Known: ${names.join(', ')}.`)
    const sections = args.length === 0 ? report.sections : report.sections.filter((section) => args.includes(section.name))
    out.result({ takenAt: report.takenAt, sections }, databaseSections(sections))
  },
}

const usage: Command = {
  name: 'report usage',
  usage: '[--since 30d]',
  summary: 'How much the app and Caretaker were used: people, counters and gauges against the period before, jobs, webhooks',
  options: { since: { type: 'string', value: 'TIME', about: 'a duration back from now or an ISO 8601 time; 30d unless given' } },
  async run({ flags, context, out }) {
    const ctx = await context()
    const to = ctx.clock.now()
    const report = await usageReport(ctx, { from: sinceTime(flags.since, to, '30 days'), to })
    out.result(report, usageText(report))
  },
}

export const commands: Command[] = [list, run, database, usage]

function moment(value: unknown): Date | undefined {
  if (value === undefined) return undefined
  const text = String(value)
  const at = /^\d{4}-\d\d-\d\d(T\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d:\d\d))?$/.test(text) ? new Date(text) : new Date(Number.NaN)
  if (Number.isNaN(at.getTime()))
    throw new CaretakerError(
      'invalid_input',
      `--at: found "${text.slice(0, 40)}", expected a date or a time with its zone, such as 2026-11-01 or 2026-11-01T04:00:00Z.`,
    )
  return at
}

function formatOf({ format, out }: { format?: unknown; out?: unknown }): 'csv' | 'json' | undefined {
  if (format === 'csv' || format === 'json') return format
  if (format !== undefined)
    throw new CaretakerError('invalid_input', `--format: found "${String(format).slice(0, 40)}", expected csv or json.`)
  const ending = typeof out === 'string' ? /\.(csv|json)$/i.exec(out)?.[1]?.toLowerCase() : undefined
  return ending === 'csv' || ending === 'json' ? ending : undefined
}

function rowsOf(rows: unknown): string | undefined {
  return rows === undefined ? undefined : `${String(rows)} ${rows === 1 ? 'row' : 'rows'}`
}

/** The pieces into a file beside it first: what is there under its name is whole. Only its owner reads it. */
async function intoFile(
  file: string,
  force: boolean,
  produce: (write: (piece: string) => Promise<void>) => Promise<void>,
): Promise<number> {
  const taken = () =>
    new CaretakerError('bad_request', `${file} is there already. Name another file with --out, or overwrite it with --force.`)
  if (!force && (await stat(file).catch(() => null)) !== null) throw taken()
  const draft = `${file}.${randomBytes(4).toString('hex')}.part`
  const handle = await open(draft, 'wx', 0o600).catch((error: NodeJS.ErrnoException): FileHandle => {
    throw new CaretakerError('invalid_input', `--out: ${file} cannot be written (${error.code}).`, { cause: error })
  })
  let size = 0
  try {
    await produce(async (piece) => {
      size += Buffer.byteLength(piece)
      await handle.write(piece)
    })
    await handle.close()
    if (force) await rename(draft, file)
    else
      await link(draft, file).catch((error: NodeJS.ErrnoException) => {
        throw error.code === 'EEXIST' ? taken() : error
      })
    return size
  } finally {
    await handle.close().catch(() => undefined)
    await rm(draft, { force: true })
  }
}

/** Waits until the reader has taken it; nobody who reads any more is no failure. */
function toTerminal(piece: string): Promise<void> {
  return new Promise((done) => process.stdout.write(piece, () => done()))
}
