import type { IncrementReport } from '../lib/backup/index.ts'
import { CaretakerError } from '../lib/platform/errors.ts'
import { keepMemorySmall, readChoice, refuseMore, showProgress } from './backup-command.ts'
import type { Command, Invocation } from './command.ts'
import { bytes, duration } from './output.ts'
import { describeReplay, type ReplayedErasures, replayErasures } from './replay-erasures.ts'

/** `backup restore --at`: the state of a moment, from the full backup before it and the increments since. */
export async function restoreMoment({ args, flags, out, context }: Invocation, targetUrl: string, at: string): Promise<void> {
  if (flags.only !== undefined)
    throw new CaretakerError(
      'bad_request',
      '--only and --at exclude each other. Restore the moment into an empty database beside yours, without --only, and take from there what you need: pg_dump --table=SCHEMA.TABLE EMPTY_DATABASE_URL writes one table.',
    )
  const ctx = await context()
  const choice = await readChoice(flags)
  const { restoreAt } = await import('../lib/backup/index.ts')
  // Every change is a few small objects, dead a moment later: here it costs a tenth more work, and transactions of a million rows
  // (200 MB) take 230 MiB instead of 307 (measured).
  keepMemorySmall()
  let replayed: ReplayedErasures | null = null
  const report = await restoreAt(ctx, {
    ...choice,
    at,
    id: args[0],
    targetUrl,
    clean: typeof flags.clean === 'string' ? flags.clean : undefined,
    resume: flags.resume === true,
    readAll: flags['read-all'] === true,
    // Erasures since the moment are not in the increments that were repeated: they come last.
    async beforeOpening() {
      replayed = await replayErasures(ctx, targetUrl)
    },
    onProgress: showProgress(out),
  })
  const { base, reached } = report
  const followed =
    reached === null
      ? 'nothing was committed between it and then'
      : `${count(report.transactions, 'transaction')} (${count(report.changes, 'change')}), the last of ${reached.commitTime} at ${reached.lsn}`
  out.result(
    { ...report, replayedErasures: replayed },
    [
      `${report.target} is as the database was at ${report.at}, in ${duration(report.durationMs)}: full backup ${base.id} of ${base.createdAt}, and ${followed}. The newest moment there is: ${report.newest}.`,
      describeReplay(replayed),
      ...report.asOfBase.map((one) => `  as of the full backup: ${one.what}. ${one.why}`),
      ...report.problems.map((problem) => `  look at: ${problem}`),
      ...base.skipped.map((one) => `  skipped: ${one.statement} (${one.reason})`),
    ].join('\n'),
  )
}

const increment: Command = {
  name: 'backup increment',
  usage: '[--stop]',
  summary: 'Store what was committed since the last increment (and a full backup where one is needed), so that any moment can be restored',
  options: { stop: { type: 'boolean' } },
  async run({ args, flags, out, context }) {
    refuseMore(args, 0, 'backup increment')
    const ctx = await context()
    const { backupDatabase, noteLoss, pruneIncrements, stopIncrements, takeIncrement } = await import('../lib/backup/index.ts')
    if (flags.stop === true) {
      const stopped = await stopIncrements(ctx)
      const what = stopped.dropped.length === 0 ? 'There was no slot of this store.' : `Dropped ${stopped.dropped.join(', ')}.`
      out.result(stopped, `${what} The server keeps no log for increments any more; those that are stored stay.`)
      return
    }
    const onProgress = showProgress(out)
    const report = await takeIncrement(ctx, { onProgress })
    const needed = report.status === 'stored' && report.fullNeeded !== null
    const full = needed ? (await backupDatabase(ctx, { onProgress })).id : null
    const pruned = await pruneIncrements(ctx)
    if (flags.store === undefined) await noteLoss(ctx)
    out.result({ ...report, full, pruned }, describe(report, full))
    if (report.status !== 'stored') process.exitCode = 1
  },
}

function describe(report: IncrementReport, full: string | null): string {
  const changes = report.segments.reduce((sum, segment) => sum + segment.changes, 0)
  const size = report.segments.reduce((sum, segment) => sum + segment.storedBytes, 0)
  const more = report.caughtUp ? '' : '; there is more to read'
  return [
    report.status === 'stored'
      ? `${count(changes, 'change')} stored in ${bytes(size)}: any moment up to ${report.coversUntil} can be restored${more}.`
      : `${report.status === 'off' ? 'No increments here, full backups only: ' : ''}${report.reason ?? ''}`,
    ...(full === null ? [] : [`  new full backup ${full}: ${report.fullNeeded}`]),
    ...report.gaps.map((gap) => `  not repeatable: ${count(gap.changes, 'change')} of ${gap.table} since ${gap.since}. ${gap.why}`),
    ...report.fullOnly.map((one) => `  only in full backups: ${one.what}. ${one.why}`),
    ...report.notes.map((note) => `  note: ${note}`),
  ].join('\n')
}

function count(number: number, noun: string): string {
  return `${number} ${noun}${number === 1 ? '' : 's'}`
}

export const incrementCommands: Command[] = [increment]
