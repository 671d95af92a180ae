import { type FileHandle, open, rm } from 'node:fs/promises'
import { hostname, userInfo } from 'node:os'
import type { RestoreReport } from '../lib/backup/index.ts'
import { duration, table } from './output.ts'
import { describeReplay, type ReplayedErasures } from './replay-erasures.ts'

export interface WrittenRestore extends RestoreReport {
  /** Who ran it, on which machine. */
  by: string
  /** The server restored into, without user and password. */
  server: string
  replayedErasures: ReplayedErasures | null
}

/** A report's place. */
export interface ReportFile {
  /** @returns where it is; null where nothing can be written to the folder, and nobody named a file */
  write(report: WrittenRestore): Promise<string | null>
  /** The restore failed: there is nothing to report. */
  discard(): Promise<void>
}

/**
 * Takes `named` before the restore begins: that it cannot be made, or is there, is no surprise at the end. Without a name it is
 * `restore-ID.md` in the working directory, with a number where there are some already.
 */
export async function takeReportFile(named: string | undefined): Promise<ReportFile> {
  const mode = 0o600
  if (named !== undefined) {
    await (await open(named, 'wx', mode)).close()
    return {
      async write(report) {
        await writeReport(await open(named, 'w'), named, report)
        return named
      },
      discard: () => rm(named, { force: true }),
    }
  }
  return {
    async write(report) {
      for (let at = 1; at < 100; at++) {
        const path = `restore-${report.id}${at === 1 ? '' : `-${at}`}.md`
        try {
          await writeReport(await open(path, 'wx', mode), path, report)
          return path
        } catch (error) {
          if ((error as NodeJS.ErrnoException).code !== 'EEXIST') return null
        }
      }
      return null
    },
    discard: () => Promise.resolve(),
  }
}

async function writeReport(file: FileHandle, path: string, report: WrittenRestore): Promise<void> {
  try {
    await file.writeFile(path.endsWith('.json') ? `${JSON.stringify(report, null, 2)}\n` : restoreReportText(report))
    await file.sync()
  } finally {
    await file.close()
  }
}

/** Who runs this, for the record. */
export function operator(): string {
  let name = 'somebody'
  try {
    name = userInfo().username
  } catch {
    // A container's user may have no name.
  }
  return `${name} on ${hostname()}`
}

/** Host and database of a URL, which holds a password. */
export function serverOf(databaseUrl: string): string {
  const url = new URL(databaseUrl)
  return `${url.hostname === '' ? 'localhost' : url.hostname}${url.port === '' ? '' : `:${url.port}`}`
}

/** What was restored, as a page: no row of anybody's, and no password. */
function restoreReportText(report: WrittenRestore): string {
  const proven = report.tables.filter((one) => one.verified)
  const problems = report.tables.filter((one) => one.problem !== undefined)
  const list = (items: readonly string[], none: string) => (items.length === 0 ? none : items.map((item) => `- ${item}`).join('\n'))
  return `# Restore of backup ${report.id}

- The backup holds the database as it was at ${report.createdAt}.
- Restored into the database "${report.target}" on ${report.server} by ${report.by}.
- Begun ${report.startedAt}, finished ${report.finishedAt}${report.runs > 1 ? `, in ${report.runs} runs: it was broken off and resumed` : ''}.

## What is there

${fence([
  ['tables', report.tables.length],
  ['rows', report.rows],
  ['bytes of rows', report.bytes],
  ['sequences', report.sequences],
  ['large objects', report.largeObjects],
])}

${proven.length} of ${report.tables.length} tables are equal to what was dumped, by SHA-256${report.largeObjects > 0 ? ', and so are the large objects' : ''}; each sequence stands where it stood. ${readBackOf(proven)}
${describeReplay(report.replayedErasures)}

## In which order

${report.notEarly === null ? '' : `Nothing was opened before the end: ${report.notEarly}.\n\n`}${list(
  report.groups.map(
    (group) =>
      `${group.name}${group.openAfterMs === null ? '' : `, open after ${duration(group.openAfterMs)}`}: ${group.tables.join(', ')}${group.moved.map((one) => ` (${one.table} came here because ${one.because} refers to it)`).join('')}`,
  ),
  'Single tables only.',
)}

## How long it took

${fence(
  report.phases.map((one) => [one.phase, duration(one.busyMs), `${duration(one.fromMs)} to ${duration(one.toMs)}`]),
  ['phase', 'work of all connections', 'since the beginning'],
)}

${duration(report.durationMs)} in all${report.runs > 1 ? ', in the last run' : ''}.

## To be done by hand

${list(report.byHand, 'Nothing.')}

## What is not there

${list(
  [
    ...report.leftOut.map((one) => `${one.what}: ${one.why}`),
    ...problems.map((one) => `${one.table}: ${one.problem}`),
    ...report.skipped.map((one) => `\`${one.statement.replaceAll('`', "'")}\`: ${one.reason}`),
    ...report.notes,
  ],
  'Everything is.',
)}
`
}

/** How much of them was looked at. */
function readBackOf(proven: WrittenRestore['tables']): string {
  const partly = proven.filter((one) => one.readBack === 'beginning').map((one) => one.table)
  return partly.length === 0
    ? 'Every row was read back.'
    : `Every row was read back, of these tables the first 16 MiB: ${partly.join(', ')}. Of the rest of them it is known that it was sent as it was dumped, that nothing could change it on its way, and that nobody has touched it since.`
}

function fence(rows: (string | number)[][], headings = ['what', 'count']): string {
  return ['```text', table(headings, rows, Number.POSITIVE_INFINITY), '```'].join('\n')
}
