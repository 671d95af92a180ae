import { open, rm } from 'node:fs/promises'
import { CaretakerError } from '../../lib/platform/errors.ts'
import { choiceOptions, choiceUsage, keepMemorySmall, listed, readChoice, refuseMore, showProgress } from '../backup-command.ts'
import { configCommands } from '../backup-config.ts'
import { incrementCommands } from '../backup-increments.ts'
import { keygen } from '../backup-keygen.ts'
import { list } from '../backup-list.ts'
import { restore } from '../backup-restore.ts'
import type { Command } from '../command.ts'
import { bytes, duration } from '../output.ts'

const run: Command = {
  name: 'backup run',
  summary: 'Back the database up: schema, rows, sequences and large objects in one snapshot',
  async run({ out, context, args, flags }) {
    refuseMore(args, 0, 'backup run')
    const ctx = await context()
    const { backupDatabase, noteLoss, openIncrements, versionConfig } = await import('../../lib/backup/index.ts')
    const { deploymentOf } = await import('../../lib/catalog.ts')
    keepMemorySmall()
    const increments = await openIncrements(ctx)
    if (!increments.on && ctx.config.backup?.increments !== undefined) out.line(`No increments: ${increments.reason}`)
    const report = await backupDatabase(ctx, { onProgress: showProgress(out) })
    // It goes with the backup, as with a scheduled one; a backup that is complete does not fail over it.
    const config = await versionConfig(ctx, deploymentOf(ctx.config)).catch((error: unknown) => {
      out.line(`The configuration was not stored with the backup: ${error instanceof CaretakerError ? error.detail : String(error)}`)
      return null
    })
    // A store that is named here for once is not the one that would be restored from.
    if (flags.store === undefined) await noteLoss(ctx)
    const left = report.leftOut.map((one) => `  left out: ${one.what}. ${one.why}`)
    out.result(
      { ...report, config: config?.id ?? null },
      [
        `Backup ${report.id} is stored in ${report.store}: ${report.tables} tables, ${report.rows} rows, ${bytes(report.storedBytes)}${report.encrypted ? '' : ', NOT encrypted'}, in ${duration(report.durationMs)}.`,
        ...(report.files === undefined
          ? []
          : [
              `  files: ${report.files.count} of the buckets ${report.files.buckets.join(', ')}, ${bytes(report.files.bytes)}; ${report.files.newCount} of them new, ${bytes(report.files.newStoredBytes)} as stored.`,
            ]),
        ...(report.signer === null
          ? ['  NOT signed: ENCRYPTION_KEY is not set. A restore has to be told to take it (--trust-unsigned).']
          : [`  signed with ${report.signer}`]),
        ...left,
      ].join('\n'),
    )
  },
}

const verify: Command = {
  name: 'backup verify',
  usage: `[ID] ${choiceUsage}`,
  summary: 'Read a backup (the newest, unless ID says which) and hold every byte against its manifest',
  options: choiceOptions,
  async run({ args, flags, out, context }) {
    refuseMore(args, 1, 'backup verify')
    const ctx = await context()
    const choice = await readChoice(flags)
    const { verifyBackup } = await import('../../lib/backup/index.ts')
    keepMemorySmall()
    const report = await verifyBackup(ctx, { ...choice, id: args[0] ?? 'latest', onProgress: showProgress(out) })
    const what = report.checked === 'content' ? 'opened, and holds what was dumped' : 'as stored (give --identity to check what is inside)'
    const files = report.files === null ? '' : `; ${report.files.files} files in ${bytes(report.files.storedBytes)}`
    out.result(report, `Backup ${report.id} is sound: ${report.objects} objects, ${bytes(report.storedBytes)}${files}, ${what}.`)
  },
}

const drill: Command = {
  name: 'backup drill',
  usage: `[ID] [--to URL] ${choiceUsage}`,
  summary: 'Restore a backup into a scratch database, compare all of it, run the assertions, and say what a loss would cost today',
  options: { ...choiceOptions, to: { type: 'string' } },
  async run({ args, flags, out, context }) {
    refuseMore(args, 1, 'backup drill')
    const ctx = await context()
    const choice = await readChoice(flags)
    const { drillBackup } = await import('../../lib/backup/index.ts')
    const scratchUrl = typeof flags.to === 'string' ? flags.to : undefined
    const report = await drillBackup(ctx, { ...choice, id: args[0], scratchUrl, onProgress: showProgress(out) })
    const schema =
      report.schemaEqual === null
        ? 'not compared (another major version)'
        : report.schemaEqual
          ? 'equal'
          : `DIFFERS at: ${report.schemaDifference}`
    out.result(
      report,
      [
        `Backup ${report.id} is ${report.proven ? 'proven' : 'NOT proven'}: ${report.tables} tables, ${report.rows} rows, each equal; schema ${schema}.`,
        ...report.assertions.map(
          (one) => `  ${one.holds ? 'holds' : 'DOES NOT HOLD'}: ${one.name}${one.problem === undefined ? '' : ` (${one.problem})`}`,
        ),
        `If the database died now: ${duration(report.rpoMs)} of data lost, open again in ${duration(report.rtoMs)}.`,
      ].join('\n'),
    )
    if (!report.proven) process.exitCode = 1
  },
}

const exportCommand: Command = {
  name: 'backup export',
  usage: `ID --out FILE ${choiceUsage}`,
  summary: 'Write a backup as one SQL script that psql loads; it is not encrypted',
  options: { ...choiceOptions, out: { type: 'string' } },
  async run({ args, flags, out, context }) {
    refuseMore(args, 1, 'backup export')
    const id = args[0]
    if (id === undefined) throw new CaretakerError('bad_request', 'Which backup? Give its id, or "latest".')
    if (typeof flags.out !== 'string') throw new CaretakerError('bad_request', 'Where to? Give --out FILE.')
    const ctx = await context()
    const choice = await readChoice(flags)
    const { exportBackup } = await import('../../lib/backup/index.ts')
    // Readable by its owner alone: it holds everything. An existing file is never written over.
    const file = await open(flags.out, 'wx', 0o600)
    const to = file.createWriteStream()
    try {
      const report = await exportBackup(ctx, { ...choice, id, to, onProgress: showProgress(out) })
      out.result(
        { ...report, file: flags.out },
        `Backup ${report.id} is in ${flags.out}: ${report.tables} tables, ${report.rows} rows, ${bytes(report.bytes)}, NOT encrypted. Load it with: psql -v ON_ERROR_STOP=1 -f ${flags.out} URL`,
      )
    } catch (error) {
      to.destroy()
      await rm(flags.out, { force: true })
      // What a full disk says of a stream does not name the file.
      throw error instanceof Error && (error as NodeJS.ErrnoException).syscall === 'write'
        ? Object.assign(error, { path: flags.out })
        : error
    }
  },
}

const prune: Command = {
  name: 'backup prune',
  usage: '[--dry-run] [--database DATABASE] [--trust-unsigned]',
  summary: 'Delete the backups that the policy no longer keeps, and what failed ones have left',
  options: {
    'dry-run': { type: 'boolean' },
    database: choiceOptions.database,
    'trust-unsigned': { type: 'boolean', about: 'count and delete what is not signed, or with an unknown key, as the rest' },
  },
  async run({ args, flags, out, context }) {
    refuseMore(args, 0, 'backup prune')
    const ctx = await context()
    const { pruneBackups, pruneIncrements } = await import('../../lib/backup/index.ts')
    const report = await pruneBackups(ctx, {
      dryRun: flags['dry-run'] === true,
      database: typeof flags.database === 'string' ? flags.database : undefined,
      trustUnsigned: flags['trust-unsigned'] === true,
    })
    const increments = report.database === null ? null : await pruneIncrements(ctx, { dryRun: report.dryRun, database: report.database })
    const verb = report.dryRun ? 'would be deleted' : 'deleted'
    out.result(
      { ...report, increments },
      [
        ...report.kept.map((one) => `  kept     ${one.id}  ${one.because.join(', ')}`),
        ...report.removed.map((id) => `  ${verb}  ${id}`),
        ...report.swept.map((id) => `  ${verb}  ${id}  incomplete`),
        ...report.damaged.map((id) => `  damaged  ${id}  counts as no copy; look at it`),
        ...report.untrusted.map((id) => `  untrusted  ${id}  not signed with a known key: counts as no copy; look at it`),
        ...report.others.map(
          (other) =>
            `  left alone  ${other.backups} of another database, "${other.database}"; to prune those: --database ${other.instance ?? other.database}`,
        ),
        ...(report.files.objects === 0
          ? []
          : [`  ${verb}  ${report.files.objects} stored files that no backup has, ${bytes(report.files.bytes)}`]),
        ...(report.files.undecided === undefined
          ? []
          : [`  no stored file is deleted: what backup ${report.files.undecided} has of them cannot be read`]),
        ...(increments === null || increments.removed === 0
          ? []
          : [`  ${verb}  ${increments.removed} increments that no moment within the policy needs`]),
        `${report.kept.length} kept, ${report.removed.length + report.swept.length} ${verb}.`,
      ].join('\n'),
    )
  },
}

const restoreFilesCommand: Command = {
  name: 'backup restore-files',
  usage: `ID [--to URL] [--bucket BUCKET…] [--overwrite] ${choiceUsage}`,
  summary: "Put a backup's files back into the Supabase project of SUPABASE_URL",
  options: {
    ...choiceOptions,
    bucket: { type: 'string', multiple: true, value: 'BUCKET', about: 'only this bucket (repeatable)' },
    overwrite: { type: 'boolean', about: 'replace files that have another content there' },
    to: { type: 'string', value: 'URL', about: "the project's database, to put owners and dates back too" },
  },
  async run({ args, flags, out, context }) {
    refuseMore(args, 1, 'backup restore-files')
    const id = args[0]
    if (id === undefined) throw new CaretakerError('bad_request', 'Which backup? Give its id, or "latest".')
    const ctx = await context()
    const choice = await readChoice(flags)
    const { restoreFiles } = await import('../../lib/backup/index.ts')
    const { erasedPeople } = await import('../../lib/gdpr/index.ts')
    const report = await restoreFiles(ctx, {
      ...choice,
      id,
      buckets: listed(flags.bucket),
      overwrite: flags.overwrite === true,
      targetUrl: typeof flags.to === 'string' ? flags.to : undefined,
      // Whoever was erased since stays erased, in Storage too.
      isErased: await erasedPeople(ctx),
      onProgress: showProgress(out),
    })
    out.result(
      report,
      [
        `${report.restored} files (${bytes(report.restoredBytes)}) of backup ${report.id} of ${report.createdAt} are restored into ${report.target} in ${duration(report.durationMs)}, each checked; ${report.present} were there.`,
        ...(report.different === 0 ? [] : [`  ${report.different} have another content there and were left; --overwrite replaces them.`]),
        ...(report.erased === 0 ? [] : [`  ${report.erased} are of people who have been erased, and stay away.`]),
        ...(report.missing === 0 ? [] : [`  ${report.missing} had been lost in Storage before the backup was made.`]),
        ...(report.owners === null && report.restored > 0
          ? ["  Their owners are not set: the Storage API cannot. Give the project's database with --to URL, again if need be."]
          : []),
      ].join('\n'),
    )
  },
}

export const commands: Command[] = [
  run,
  ...incrementCommands,
  keygen,
  list,
  verify,
  drill,
  restore,
  restoreFilesCommand,
  exportCommand,
  prune,
  ...configCommands,
]
