import type { Context } from '../platform/context.ts'
import { identifier, type Session } from '../platform/db.ts'
import { CaretakerError, sqlState } from '../platform/errors.ts'
import { cleanTarget, confirmClean } from './clean-target.ts'
import { codeOf, type Loading, type RestoredTable, reasonOf } from './load-tables.ts'
import type { Manifest } from './manifest.ts'
import { backupConnections } from './policy.ts'
import type { OnProgress } from './progress.ts'
import { claimTarget, tuneTarget } from './restore/claim-target.ts'
import type { Obstacle } from './restore/early-opening.ts'
import { type Bound, findRestore, Journal, restoreSchema } from './restore/journal.ts'
import { requireExtensions } from './restore/require-extensions.ts'
import { requireSame } from './restore/require-same.ts'
import { type OpenedGroup, restoreAll, textOf } from './restore/restore-all.ts'
import { type PhaseTime, Stopwatch } from './restore/stopwatch.ts'
import { restoreRows } from './restore-rows.ts'
import type { ScriptRules, Skipped } from './run-script.ts'
import { type BackupChoice, selectBackup } from './select-backup.ts'
import { pinSession, serverVersion, withSessions } from './sessions.ts'
import { nameOf } from './table-name.ts'
import { inspectTarget, platformNote, type Target } from './target.ts'
import { checkObjects, openBackup } from './verify-backup.ts'

/** `identity`, the text of an identity file, is needed for an encrypted backup. */
export interface RestoreInput extends BackupChoice {
  /** The empty database to restore into. A secret. */
  targetUrl: string
  /** The target's own name: everything in it is deleted first. */
  clean?: string | undefined
  /** Go on with the restore that the target holds half of; from the beginning where it is empty. */
  resume?: boolean | undefined
  /** Tables whose rows alone are brought back, into a database that has them, empty. */
  only?: readonly string[] | undefined
  /** Make the jobs of pg_cron inactive: a copy that only stands for a while must not act. */
  stillJobs?: boolean | undefined
  /** Let the app use groups of tables as they come, in the order of `backup.restoreOrder`. Asked first, once: why it must not, or null. */
  openEarly?: Obstacle | undefined
  /** Called when every row is in, before the database is open; again, when a restore is resumed. */
  beforeOpening?: (() => Promise<unknown>) | undefined
  /** What this restore is besides its backup. */
  bound?: Bound | undefined
  /** Called when the whole backup is in, before that is noted; again, when a restore is resumed. */
  afterAll?: ((restored: { main: Session; journal: Journal; tables: readonly RestoredTable[] }) => Promise<void>) | undefined
  /** Read every row back and compare it, also where the proof needs only a part of them. */
  readAll?: boolean | undefined
  onProgress?: OnProgress
}

export interface RestoreReport {
  id: string
  createdAt: string
  target: string
  tables: RestoredTable[]
  rows: number
  /** Of the rows, as COPY writes them. */
  bytes: number
  sequences: number
  largeObjects: number
  /** Statements the target refused although they were not essential, each with its reason: an owner that may not be given. */
  skipped: Skipped[]
  /** Files of Storage buckets that the backup has: `restoreFiles` brings them back. */
  files: number
  /** In their order; empty where single tables were asked for. */
  groups: OpenedGroup[]
  /** Why nothing was opened before the end, where that was asked for. */
  notEarly: string | null
  notes: string[]
  /** What a person has to do now. */
  byHand: string[]
  /** What the backup does not hold, and why. */
  leftOut: Manifest['leftOut']
  /** Of this run; those of different tables overlap. */
  phases: PhaseTime[]
  /** When the first run began. More than one: it was resumed. */
  startedAt: string
  finishedAt: string
  runs: number
  /** Of this run. */
  durationMs: number
}

/**
 * Restores a backup into an empty database (or, with `only`, rows of tables into one that has them) and proves it: every object
 * is checked against the manifest before the first row is written, and every table's rows, read back, must hash to what was dumped.
 * A restore that was broken off goes on with `resume`: what is done is noted in the target.
 * @throws {CaretakerError} `restore_target_not_empty`, `backup_corrupt`, `backup_untrusted`, `backup_identity`, `restore_mismatch`,
 * `conflict` where another restore into the target is under way
 */
export async function restoreBackup(ctx: Context, input: RestoreInput): Promise<RestoreReport> {
  const stopwatch = new Stopwatch(ctx.clock)
  const startedAt = ctx.clock.now()
  if (input.clean !== undefined && input.resume === true)
    throw new CaretakerError('bad_request', '--clean and --resume exclude each other: the one starts anew, the other goes on.')
  if (input.only !== undefined && input.only.length > 0 && input.clean !== undefined)
    throw new CaretakerError('bad_request', '--only and --clean exclude each other.')
  const store = await ctx.objects()
  const manifest = await selectBackup(ctx, store, { ...input, id: await meantBackup(ctx, input) })
  const opening = openBackup(ctx, store, manifest, input.identity)
  if (opening.encrypted && opening.identities.length === 0)
    throw new CaretakerError('backup_identity', `Backup ${manifest.id} is encrypted; give the identity file with --identity.`)
  const only = input.only === undefined || input.only.length === 0 ? null : input.only
  const restored = await withSessions(input.targetUrl, ctx.env.DATABASE_CA, backupConnections(ctx), async (sessions) => {
    const [main] = sessions
    if (main === undefined) throw new CaretakerError('internal', 'A restore needs a connection.')
    const stopping = new AbortController()
    const stop = () => {
      stopping.abort()
      hangUp(sessions)
    }
    ctx.signal.throwIfAborted()
    ctx.signal.addEventListener('abort', stop, { once: true })
    try {
      const version = await serverVersion(main)
      for (const session of sessions) {
        await pinSession(session, version.number, { lockTimeoutMs: 0 })
        await tuneTarget(session, sessions.length)
      }
      const signal = AbortSignal.any([ctx.signal, stopping.signal])
      const loading: Loading = {
        manifest,
        opening: { ...opening, signal },
        main,
        sessions,
        onProgress: input.onProgress,
        stillJobs: input.stillJobs,
      }
      await claimTarget(sessions, {
        resumed: input.resume === true,
        signal: ctx.signal,
        onWait: (pid) =>
          input.onProgress?.({
            phase: 'schema',
            what: `the target: waiting for process ${pid} of an earlier restore to end`,
            doneBytes: 0,
            totalBytes: 0,
          }),
      })
      return only === null ? await restoreWhole(ctx, input, loading, { stopwatch, stop }) : await restoreRows(ctx, input, loading, only)
    } catch (error) {
      throw ctx.signal.aborted && !(error instanceof CaretakerError) ? ctx.signal.reason : error
    } finally {
      ctx.signal.removeEventListener('abort', stop)
    }
  })
  const { subscriptions, ...rest } = restored
  return {
    id: manifest.id,
    createdAt: manifest.createdAt,
    ...rest,
    rows: restored.tables.reduce((sum, table) => sum + table.rows, 0),
    files: manifest.files?.count ?? 0,
    byHand: only === null ? byHandAfter(manifest, subscriptions) : [],
    leftOut: manifest.leftOut,
    phases: stopwatch.phases(),
    startedAt: (restored.startedAt ?? startedAt).toISOString(),
    finishedAt: ctx.clock.now().toISOString(),
    durationMs: stopwatch.elapsedMs(),
  }
}

export type Restored = Pick<
  RestoreReport,
  'target' | 'tables' | 'bytes' | 'sequences' | 'largeObjects' | 'skipped' | 'groups' | 'notEarly' | 'notes' | 'runs'
> & {
  startedAt: Date | null
  subscriptions: string[]
}

/** What no backup can do for a person. */
function byHandAfter(manifest: Manifest, subscriptions: readonly string[]): string[] {
  const roles = manifest.roles.filter((role) => role.login && role.name !== 'postgres').map((role) => role.name)
  const { files } = manifest
  return [
    ...(files === undefined || files.count === 0
      ? []
      : [`Bring the ${files.count} files of its buckets back: caretaker backup restore-files ${manifest.id} --to URL`]),
    ...(roles.length === 0 ? [] : [`Give the roles that were made here a password: ${roles.join(', ')} (alter role NAME password '…').`]),
    ...(subscriptions.length === 0 ? [] : [`Enable subscriptions when their publishers are ready: ${subscriptions.join(', ')}.`]),
    'Sign in to the app and use it: what a person would miss, no hash tells.',
  ]
}

/** A restore that goes on means the backup it began with, although `latest` may be another by now. */
async function meantBackup(ctx: Context, input: RestoreInput): Promise<string> {
  if (input.resume !== true || input.id !== 'latest') return input.id
  const found = await withSessions(input.targetUrl, ctx.env.DATABASE_CA, 1, async ([session]) =>
    session === undefined ? null : findRestore(session),
  )
  return found?.backupId ?? input.id
}

async function restoreWhole(
  ctx: Context,
  input: RestoreInput,
  loading: Loading,
  run: { stopwatch: Stopwatch; stop: () => void },
): Promise<Restored> {
  const { main, manifest, opening } = loading
  const { stopwatch } = run
  const bound = input.bound ?? null
  const found = await findRestore(main)
  const resumed = found !== null && input.clean === undefined
  if (resumed) requireSame(found, manifest, bound, input.resume === true)
  const target = await inspectTarget(main, {
    url: input.targetUrl,
    ca: ctx.env.DATABASE_CA,
    signal: ctx.signal,
    known: resumed ? await Journal.noteOf(main) : null,
  })
  await requireExtensions(main, manifest)
  if (input.clean !== undefined) confirmClean(target, input.clean)
  else if (!resumed) refuseOccupied(target)
  const preData = await stopwatch.measure('check', async () => {
    // Opens the schema first: a wrong identity shows before the whole backup is read.
    await checkObjects(
      opening,
      manifest.objects.filter((object) => object.kind === 'pre-data'),
    )
    const schema = await textOf(opening, manifest, 'pre-data')
    const done = resumed ? await Journal.loadedTables(main) : new Set<string>()
    const skip = new Set(manifest.tables.filter((table) => done.has(nameOf(table))).flatMap((table) => table.parts.map((part) => part.key)))
    await checkObjects(
      opening,
      manifest.objects.filter((object) => !skip.has(object.key)),
      input.onProgress,
    )
    return schema
  })
  if (preData.includes(`\nCREATE SCHEMA ${restoreSchema};\n`))
    throw new CaretakerError(
      'restore_mismatch',
      `Backup ${manifest.id} was made of a database that held half a restore itself. Take another.`,
    )
  if (input.clean !== undefined) await cleanTarget(main)
  const early = input.openEarly !== undefined
  const journal = resumed
    ? await Journal.resume(main)
    : await Journal.begin(main, manifest, { early, platform: platformNote(target), bound }).catch((error: unknown) => {
        throw sqlState(error) === '42501' ? mayNotMake(target, error) : error
      })
  const rules: ScriptRules = { restrictKey: manifest.restrictKey, platform: target.platform }
  try {
    const all = await restoreAll({
      loading,
      journal,
      rules,
      preData,
      order: { groups: ctx.config.backup?.restoreOrder ?? null, subject: ctx.config.gdpr?.subject?.table ?? null },
      // What was begun without keeping anything closed cannot open anything early.
      obstacle: journal.early ? (input.openEarly ?? (() => Promise.resolve('this run was not asked to open anything early'))) : null,
      beforeOpening: input.beforeOpening,
      readAll: input.readAll === true,
      stopwatch,
      stop: run.stop,
    })
    await input.afterAll?.({ main, journal, tables: all.tables })
    await journal.finish(main)
    return {
      target: target.name,
      ...all,
      bytes: manifest.tables.reduce((sum, table) => sum + table.bytes, 0),
      sequences: manifest.sequences.length,
      largeObjects: manifest.largeObjects.count,
      runs: journal.runs,
      startedAt: journal.startedAt,
    }
  } catch (error) {
    throw unfinished(ctx, { error, journal, manifest, target })
  }
}

function mayNotMake({ name }: Target, cause: unknown): CaretakerError {
  const what = 'The role may not make schemas in the target; nothing was restored.'
  return new CaretakerError('forbidden', `${what} Make it the owner: alter database ${identifier(name)} owner to ROLE.`, { cause })
}

function refuseOccupied(target: Target): void {
  if (target.occupiedBy !== null)
    throw new CaretakerError(
      'restore_target_not_empty',
      `The target already holds ${target.occupiedBy}. Restore into an empty database, or have everything in it deleted first with --clean ${target.name}.`,
    )
}

/** What went wrong, how far it was, and how to go on. */
function unfinished(
  ctx: Context,
  { error, journal, manifest, target }: { error: unknown; journal: Journal; manifest: Manifest; target: Target },
): CaretakerError {
  const stopped = ctx.signal.aborted
  const { reason } = ctx.signal
  const cause = stopped ? reason : error
  const code = codeOf(cause)
  const bytes = manifest.tables.reduce((sum, table) => sum + (journal.isDone(`rows:${nameOf(table)}`) ? table.bytes : 0), 0)
  const done = manifest.tables.filter((table) => journal.isDone(`rows:${nameOf(table)}`)).length
  const how = target.platform === null ? `, or start anew with --clean ${target.name}` : ''
  const next =
    code === 'restore_mismatch' || code === 'backup_corrupt'
      ? target.platform === null
        ? `Start anew with --clean ${target.name}, and with another backup if it happens again.`
        : 'Restore into a new project, and another backup if it happens again.'
      : `${stopped ? 'Go' : 'When the cause is gone, go'} on with --resume${how}.`
  return new CaretakerError(
    code,
    `${reasonOf(cause)} The target is not whole: ${done} of ${manifest.tables.length} tables are in (${bytes} bytes). ${next} What is noted of it is in its schema ${restoreSchema}.`,
    { cause: error },
  )
}

/** Ends whatever is under way at once: the server notices, and takes back what was not committed. */
function hangUp(sessions: readonly Session[]): void {
  for (const { client } of sessions) (client as unknown as { connection: { stream: { destroy(): void } } }).connection.stream.destroy()
}
