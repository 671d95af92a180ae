import { CaretakerError, hasCode } from '../lib/platform/errors.ts'
import { choiceOptions, choiceUsage, keepMemorySmall, listed, readChoice, refuseMore, showProgress } from './backup-command.ts'
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
    const { to, at } = flags
    requireTargetUrl(to)
    if (typeof at !== 'string') return ofTarget(to, () => restoreBackupTo(invocation, id, to))
    for (const flag of ['report', 'all-at-once'])
      if (flags[flag] !== undefined) throw new CaretakerError('bad_request', `--${flag} and --at exclude each other.`)
    return ofTarget(to, () => restoreMoment(invocation, to, at))
  },
}

/** Never repeats it: it holds a password. */
function requireTargetUrl(to: string): void {
  const expected = '--to: expected postgres://USER:PASSWORD@HOST:PORT/EMPTY_DATABASE.'
  // Without the user and the password, each of these ends what they stand in.
  const cut = /^postgres(?:ql)?:\/\/[^/?#]*[/?#][^?]*@/.test(to) || /%(?![0-9a-f]{2})/i.test(to)
  if (cut)
    throw new CaretakerError(
      'invalid_input',
      `${expected} In a user, a password or a name "/", "?", "#", "@" and "%" are written %2F, %3F, %23, %40 and %25.`,
    )
  if (!URL.canParse(to) || !/^postgres(ql)?:$/.test(new URL(to).protocol)) throw new CaretakerError('invalid_input', expected)
  // PostgreSQL takes the one that is called as the user: often the server's own.
  if (/^\/?$/.test(new URL(to).pathname)) throw new CaretakerError('invalid_input', `${expected} It names no database.`)
}

/** A database that cannot be reached is called by its flag: there is another one that a command works with. */
async function ofTarget(to: string, work: () => Promise<void>): Promise<void> {
  try {
    await work()
  } catch (error) {
    if (!hasCode(error, 'database_unavailable') || !/^(?:The database|There is no database)/.test(error.detail)) throw error
    throw new CaretakerError(error.code, `--to (${serverOf(to)}): ${error.detail}`, { cause: error })
  }
}

async function restoreBackupTo({ flags, out, context }: Invocation, id: string, targetUrl: string): Promise<void> {
  const ctx = await context()
  const choice = await readChoice(flags)
  const only = listed(flags.only)
  const { restoreBackup } = await import('../lib/backup/index.ts')
  keepMemorySmall()
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
