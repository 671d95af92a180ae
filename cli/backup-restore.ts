import { CaretakerError } from '../lib/platform/errors.ts'
import { choiceOptions, choiceUsage, listed, readChoice, refuseMore, showProgress } from './backup-command.ts'
import { restoreMoment } from './backup-increments.ts'
import type { Command, Invocation } from './command.ts'
import { duration } from './output.ts'
import { describeReplay, erasedObstacle, type ReplayedErasures, replayErasures } from './replay-erasures.ts'
import { operator, serverOf, takeReportFile } from './restore-report.ts'

export const restore: Command = {
  name: 'backup restore',
  usage: `ID --to URL [--at TIME] [--resume] [--all-at-once] [--read-all] [--report FILE] [--only SCHEMA.TABLE…] [--clean DATABASE] ${choiceUsage}`,
  summary: 'Restore a backup, or any moment since (--at), into an empty database and prove that it is equal',
  options: {
    ...choiceOptions,
    to: { type: 'string', value: 'URL', about: 'the database to restore into' },
    at: { type: 'string', value: 'TIME', about: 'the state of this moment: an ISO time, or "latest"' },
    resume: { type: 'boolean', about: 'go on with a restore that was broken off' },
    'all-at-once': { type: 'boolean', about: 'open nothing to the app before all of it is there' },
    'read-all': { type: 'boolean', about: 'read every row back, also where the proof needs only a part' },
    report: { type: 'string', value: 'FILE', about: 'where the report goes (.md or .json); else restore-ID.md in this folder' },
    only: { type: 'string', multiple: true, value: 'SCHEMA.TABLE', about: 'rows of these tables alone, into tables that are empty' },
    clean: { type: 'string', value: 'DATABASE', about: "the target's name: everything in it is deleted first" },
  },
  async run(invocation) {
    const { args, flags } = invocation
    refuseMore(args, 1, 'backup restore')
    // With --at the moment says which.
    const id = args[0] ?? (flags.at === undefined ? undefined : 'latest')
    if (id === undefined) throw new CaretakerError('bad_request', 'Which backup? Give its id, or "latest".')
    if (typeof flags.to !== 'string')
      throw new CaretakerError('bad_request', 'Where to? Give --to postgres://USER:PASSWORD@HOST/EMPTY_DATABASE.')
    if (!URL.canParse(flags.to) || !/^postgres(ql)?:$/.test(new URL(flags.to).protocol))
      throw new CaretakerError('invalid_input', '--to: expected postgres://USER:PASSWORD@HOST:PORT/EMPTY_DATABASE.')
    if (typeof flags.at !== 'string') return restoreBackupTo(invocation, id, flags.to)
    for (const flag of ['report', 'all-at-once'])
      if (flags[flag] !== undefined) throw new CaretakerError('bad_request', `--${flag} and --at exclude each other.`)
    return restoreMoment(invocation, flags.to, flags.at)
  },
}

async function restoreBackupTo({ flags, out, context }: Invocation, id: string, targetUrl: string): Promise<void> {
  const ctx = await context()
  const choice = await readChoice(flags)
  const only = listed(flags.only)
  const { restoreBackup } = await import('../lib/backup/index.ts')
  const obstacle = only === undefined ? await erasedObstacle(ctx, targetUrl) : undefined
  const file = await takeReportFile(typeof flags.report === 'string' ? flags.report : undefined)
  let replayed: ReplayedErasures | null = null
  try {
    const report = await restoreBackup(ctx, {
      ...choice,
      id,
      targetUrl,
      only,
      clean: typeof flags.clean === 'string' ? flags.clean : undefined,
      resume: flags.resume === true,
      readAll: flags['read-all'] === true,
      ...(obstacle === undefined || flags['all-at-once'] === true ? {} : { openEarly: obstacle }),
      async beforeOpening() {
        replayed = await replayErasures(ctx, targetUrl)
      },
      onProgress: showProgress(out),
    })
    const written = { ...report, by: operator(), server: serverOf(targetUrl), replayedErasures: replayed }
    const reportFile = await file.write(written)
    out.result(
      { ...written, reportFile },
      [
        `Backup ${report.id} of ${report.createdAt} is restored into ${report.target} in ${duration(report.durationMs)}: ${report.tables.length} tables, ${report.rows} rows, ${report.sequences} sequences, each equal to what was backed up.`,
        describeReplay(replayed),
        ...(report.notEarly === null ? [] : [`Nothing was opened before the end: ${report.notEarly}.`]),
        ...report.notes.map((note) => `  note: ${note}`),
        ...report.skipped.map((one) => `  skipped: ${one.statement} (${one.reason})`),
        ...report.tables.flatMap((table) => (table.problem === undefined ? [] : [`  ${table.table}: ${table.problem}`])),
        ...report.byHand.map((one) => `  by hand: ${one}`),
        reportFile === null
          ? 'The report could not be written to this folder: --report FILE says where to.'
          : `The report is in ${reportFile}.`,
      ].join('\n'),
    )
  } catch (error) {
    await file.discard()
    throw error
  }
}
