import { createWriteStream } from 'node:fs'
import { readFile, rm } from 'node:fs/promises'
import type { BackupProgress, OnProgress } from '../../lib/backup/index.ts'
import { CaretakerError } from '../../lib/platform/errors.ts'
import type { Command, Invocation, Output } from '../command.ts'
import { bytes, duration, table } from '../output.ts'
import { describeReplay, replayErasures } from '../replay-erasures.ts'

const identityOption = { identity: { type: 'string' } } as const

const run: Command = {
  name: 'backup run',
  summary: 'Back the database up: schema, rows, sequences and large objects in one snapshot',
  async run({ out, context, args }) {
    refuseMore(args, 0, 'backup run')
    const ctx = await context()
    const { backupDatabase } = await import('../../lib/backup/index.ts')
    const report = await backupDatabase(ctx, { onProgress: showProgress(out) })
    const left = report.leftOut.map((one) => `  left out: ${one.what}. ${one.why}`)
    out.result(
      report,
      [
        `Backup ${report.id} is stored in ${report.store}: ${report.tables} tables, ${report.rows} rows, ${bytes(report.storedBytes)}${report.encrypted ? '' : ', NOT encrypted'}, in ${duration(report.durationMs)}.`,
        ...left,
      ].join('\n'),
    )
  },
}

const list: Command = {
  name: 'backup list',
  summary: 'List the backups in the store, newest first',
  async run({ out, context, args }) {
    refuseMore(args, 0, 'backup list')
    const ctx = await context()
    const { listBackups } = await import('../../lib/backup/index.ts')
    const backups = await listBackups(ctx)
    const now = ctx.clock.now().getTime()
    const lines = backups.map((backup) =>
      backup.problem === undefined
        ? [
            backup.id,
            age(now - Date.parse(backup.createdAt)),
            bytes(backup.storedBytes),
            backup.tables,
            backup.rows,
            backup.encrypted ? 'yes' : 'NO',
            backup.proven === undefined ? 'not yet' : `${backup.proven.proven ? '' : 'FAILED '}${age(now - Date.parse(backup.proven.at))}`,
          ]
        : [backup.id, backup.problem],
    )
    out.result(
      backups,
      backups.length === 0
        ? 'There is no backup yet: `caretaker backup run` makes one.'
        : table(['backup', 'age', 'size', 'tables', 'rows', 'encrypted', 'proven'], lines),
    )
  },
}

const verify: Command = {
  name: 'backup verify',
  usage: '[ID] [--identity FILE]',
  summary: 'Read a backup (the newest, unless ID says which) and hold every byte against its manifest',
  options: identityOption,
  async run({ args, flags, out, context }) {
    refuseMore(args, 1, 'backup verify')
    const ctx = await context()
    const identity = await readIdentity(flags)
    const { verifyBackup } = await import('../../lib/backup/index.ts')
    const report = await verifyBackup(ctx, { id: args[0] ?? 'latest', identity, onProgress: showProgress(out) })
    const what = report.checked === 'content' ? 'opened, and holds what was dumped' : 'as stored (give --identity to check what is inside)'
    out.result(report, `Backup ${report.id} is sound: ${report.objects} objects, ${bytes(report.storedBytes)}, ${what}.`)
  },
}

const restore: Command = {
  name: 'backup restore',
  usage: 'ID --to URL [--identity FILE] [--only SCHEMA.TABLE…] [--clean DATABASE]',
  summary: 'Restore a backup into an empty database and prove that it is equal',
  options: { ...identityOption, to: { type: 'string' }, only: { type: 'string', multiple: true }, clean: { type: 'string' } },
  async run({ args, flags, out, context }) {
    refuseMore(args, 1, 'backup restore')
    const id = args[0]
    if (id === undefined) throw new CaretakerError('bad_request', 'Which backup? Give its id, or "latest".')
    if (typeof flags.to !== 'string')
      throw new CaretakerError('bad_request', 'Where to? Give --to postgres://USER:PASSWORD@HOST/EMPTY_DATABASE.')
    const ctx = await context()
    const identity = await readIdentity(flags)
    const { restoreBackup } = await import('../../lib/backup/index.ts')
    const report = await restoreBackup(ctx, {
      id,
      identity,
      targetUrl: flags.to,
      only: listed(flags.only),
      clean: typeof flags.clean === 'string' ? flags.clean : undefined,
      onProgress: showProgress(out),
    })
    const skipped = [
      ...report.skipped.map((one) => `  skipped: ${one.statement} (${one.reason})`),
      ...report.tables.flatMap((table) => (table.problem === undefined ? [] : [`  ${table.table}: ${table.problem}`])),
    ]
    const replayed = await replayErasures(ctx, flags.to)
    out.result(
      { ...report, replayedErasures: replayed },
      [
        `Backup ${report.id} of ${report.createdAt} is restored into ${report.target} in ${duration(report.durationMs)}: ${report.tables.length} tables, ${report.rows} rows, ${report.sequences} sequences, each equal to what was backed up.`,
        describeReplay(replayed),
        ...skipped,
      ].join('\n'),
    )
  },
}

const drill: Command = {
  name: 'backup drill',
  usage: '[ID] [--identity FILE] [--to URL]',
  summary: 'Restore a backup into a scratch database, compare all of it, run the assertions, and say what a loss would cost today',
  options: { ...identityOption, to: { type: 'string' } },
  async run({ args, flags, out, context }) {
    refuseMore(args, 1, 'backup drill')
    const ctx = await context()
    const identity = await readIdentity(flags)
    const { drillBackup } = await import('../../lib/backup/index.ts')
    const scratchUrl = typeof flags.to === 'string' ? flags.to : undefined
    const report = await drillBackup(ctx, { id: args[0], identity, scratchUrl, onProgress: showProgress(out) })
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
  usage: 'ID --out FILE [--identity FILE]',
  summary: 'Write a backup as one SQL script that psql loads; it is not encrypted',
  options: { ...identityOption, out: { type: 'string' } },
  async run({ args, flags, out, context }) {
    refuseMore(args, 1, 'backup export')
    const id = args[0]
    if (id === undefined) throw new CaretakerError('bad_request', 'Which backup? Give its id, or "latest".')
    if (typeof flags.out !== 'string') throw new CaretakerError('bad_request', 'Where to? Give --out FILE.')
    const ctx = await context()
    const identity = await readIdentity(flags)
    const { exportBackup } = await import('../../lib/backup/index.ts')
    // Readable by its owner alone: it holds everything. An existing file is never written over.
    const to = createWriteStream(flags.out, { mode: 0o600, flags: 'wx' })
    try {
      const report = await exportBackup(ctx, { id, identity, to, onProgress: showProgress(out) })
      out.result(
        { ...report, file: flags.out },
        `Backup ${report.id} is in ${flags.out}: ${report.tables} tables, ${report.rows} rows, ${bytes(report.bytes)}, NOT encrypted. Load it with: psql -v ON_ERROR_STOP=1 -f ${flags.out} URL`,
      )
    } catch (error) {
      to.destroy()
      if ((error as NodeJS.ErrnoException).code === 'EEXIST')
        throw new CaretakerError('conflict', `${flags.out} is there already; give another name.`, { cause: error })
      await rm(flags.out, { force: true })
      throw error
    }
  },
}

const prune: Command = {
  name: 'backup prune',
  usage: '[--dry-run]',
  summary: 'Delete the backups that the policy no longer keeps, and what failed ones have left',
  options: { 'dry-run': { type: 'boolean' } },
  async run({ args, flags, out, context }) {
    refuseMore(args, 0, 'backup prune')
    const { pruneBackups } = await import('../../lib/backup/index.ts')
    const report = await pruneBackups(await context(), { dryRun: flags['dry-run'] === true })
    const verb = report.dryRun ? 'would be deleted' : 'deleted'
    out.result(
      report,
      [
        ...report.kept.map((one) => `  kept     ${one.id}  ${one.because.join(', ')}`),
        ...report.removed.map((id) => `  ${verb}  ${id}`),
        ...report.swept.map((id) => `  ${verb}  ${id}  incomplete`),
        ...report.damaged.map((id) => `  damaged  ${id}  counts as no copy; look at it`),
        `${report.kept.length} kept, ${report.removed.length + report.swept.length} ${verb}.`,
      ].join('\n'),
    )
  },
}

export const commands: Command[] = [run, list, verify, drill, restore, exportCommand, prune]

function listed(value: Invocation['flags'][string]): string[] | undefined {
  return Array.isArray(value) ? value.flatMap((one) => one.split(',')) : undefined
}

function refuseMore(args: readonly string[], most: number, command: string): void {
  if (args.length > most) throw new CaretakerError('bad_request', `"${args[most]}" is one argument too many for "caretaker ${command}".`)
}

async function readIdentity(flags: Invocation['flags']): Promise<string | undefined> {
  if (typeof flags.identity !== 'string') return undefined
  try {
    return await readFile(flags.identity, 'utf8')
  } catch (cause) {
    throw new CaretakerError('backup_identity', `The identity file ${flags.identity} cannot be read.`, { cause })
  }
}

const verbs: Record<BackupProgress['phase'], string> = {
  schema: 'reading',
  data: 'dumping',
  sequences: 'reading',
  files: 'fetching files of',
  seal: 'writing',
  check: 'checking',
  load: 'loading',
  indexes: 'making',
  verify: 'comparing',
}

/** One line with how far it is, how fast, and how long it will take: sizes are estimates until a table is read. */
function showProgress(out: Output): OnProgress {
  let began: { phase: string; at: number; done: number } | undefined
  return (progress) => {
    const at = performance.now()
    if (began?.phase !== progress.phase) began = { phase: progress.phase, at, done: progress.doneBytes }
    const elapsed = (at - began.at) / 1000
    const rate = elapsed > 0.5 ? (progress.doneBytes - began.done) / elapsed : 0
    const left =
      rate > 0 && progress.totalBytes > progress.doneBytes
        ? `, about ${duration(((progress.totalBytes - progress.doneBytes) / rate) * 1000)} left`
        : ''
    const done =
      progress.totalBytes === 0 ? '' : ` ${bytes(progress.doneBytes)} of ${bytes(Math.max(progress.totalBytes, progress.doneBytes))}`
    out.progress(`${verbs[progress.phase]} ${progress.what}${done}${rate > 0 ? `, ${bytes(Math.round(rate))}/s` : ''}${left}`)
  }
}

function age(ms: number): string {
  const minutes = Math.max(0, Math.round(ms / 60_000))
  if (minutes < 120) return `${minutes} min ago`
  return minutes < 2 * 1440 ? `${Math.round(minutes / 60)} h ago` : `${Math.round(minutes / 1440)} days ago`
}
