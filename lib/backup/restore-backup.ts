import type { Context } from '../platform/context.ts'
import { qualified, type Session } from '../platform/db.ts'
import { CaretakerError } from '../platform/errors.ts'
import { cleanTarget, confirmClean } from './clean-target.ts'
import { copyObjectIn } from './copy-in.ts'
import { largeObjectFraming } from './framing.ts'
import { copyLargeObjectsIn, copyLargeObjectsOut, largeObjectPrelude, largeObjectTail } from './large-objects.ts'
import { loadIntoExisting, selectTables } from './load-into-existing.ts'
import { hashCuts, type Loading, loadTables, partObject, type RestoredTable } from './load-tables.ts'
import type { Manifest, ManifestObject, ManifestTable } from './manifest.ts'
import { type Opening, readObjectText } from './object-stream.ts'
import { backupConnections } from './policy.ts'
import type { OnProgress } from './progress.ts'
import { type Executed, runPostData, runScript, type ScriptRules } from './run-script.ts'
import { type BackupChoice, selectBackup } from './select-backup.ts'
import { pinSession, serverVersion, shareOut, withSessions } from './sessions.ts'
import { restoreSettings } from './settings.ts'
import { isPlatformSchema } from './supabase.ts'
import { foreignKeyOrder, inspectTarget, type Target } from './target.ts'
import { checkObjects, openBackup } from './verify-backup.ts'

/** `identity`, the text of an identity file, is needed for an encrypted backup. */
export interface RestoreInput extends BackupChoice {
  /** The empty database to restore into. A secret. */
  targetUrl: string
  /** The target's own name: everything in it is deleted first. */
  clean?: string | undefined
  /** Tables whose rows alone are brought back, into a database that has them, empty. */
  only?: readonly string[] | undefined
  /** Make the jobs of pg_cron inactive: a copy that only stands for a while must not act. */
  stillJobs?: boolean | undefined
  onProgress?: OnProgress
}

export interface RestoreReport {
  id: string
  createdAt: string
  target: string
  tables: RestoredTable[]
  rows: number
  sequences: number
  largeObjects: number
  /** Statements the target refused although they were not essential, each with its reason: an owner that may not be given. */
  skipped: { statement: string; reason: string }[]
  /** Files of Storage buckets that the backup has: `restoreFiles` brings them back. */
  files: number
  durationMs: number
}

/**
 * Restores a backup into an empty database (or, with `only`, rows of tables into one that has them) and proves it: every object is checked against the manifest before the first
 * row is written, and every table's rows, read back, must hash to what was dumped.
 * @throws {CaretakerError} `restore_target_not_empty`, `backup_corrupt`, `backup_untrusted`, `backup_identity`, `restore_mismatch`
 */
export async function restoreBackup(ctx: Context, input: RestoreInput): Promise<RestoreReport> {
  const startedMs = ctx.clock.monotonicMs()
  const store = await ctx.objects()
  const manifest = await selectBackup(ctx, store, input)
  const { id } = manifest
  const opening = openBackup(ctx, store, manifest, input.identity)
  if (opening.encrypted && opening.identities.length === 0)
    throw new CaretakerError('backup_identity', `Backup ${id} is encrypted; give the identity file with --identity.`)
  const only = input.only === undefined || input.only.length === 0 ? null : selectTables(manifest, input.only)
  if (only !== null && input.clean !== undefined) throw new CaretakerError('bad_request', '--only and --clean exclude each other.')
  const report = await withSessions(input.targetUrl, ctx.env.DATABASE_CA, backupConnections(ctx), async (sessions) => {
    const [main] = sessions
    if (main === undefined) throw new CaretakerError('internal', 'A restore needs a connection.')
    const version = await serverVersion(main)
    for (const session of sessions) await pinSession(session, version.number, { lockTimeoutMs: 0 })
    const target = await inspectTarget(main, { url: input.targetUrl, ca: ctx.env.DATABASE_CA, signal: ctx.signal })
    if (only === null && input.clean === undefined) refuseOccupied(target)
    if (input.clean !== undefined) confirmClean(target, input.clean)
    // Opens the schema first: a wrong identity shows before the whole backup is read.
    await checkObjects(
      opening,
      manifest.objects.filter((object) => object.kind === 'pre-data'),
    )
    const preData = await textOf(opening, manifest, 'pre-data')
    await checkObjects(opening, manifest.objects, input.onProgress)
    const loading: Loading = { manifest, opening, main, sessions, onProgress: input.onProgress, stillJobs: input.stillJobs }
    if (only !== null) return loadOnly(loading, target, only)
    if (input.clean !== undefined) await cleanTarget(main)
    return load(loading, target, preData)
  })
  const files = manifest.files?.count ?? 0
  return { id, createdAt: manifest.createdAt, ...report, files, durationMs: Math.round(ctx.clock.monotonicMs() - startedMs) }
}

type Loaded = Omit<RestoreReport, 'id' | 'createdAt' | 'files' | 'durationMs'>

async function loadOnly(loading: Loading, target: Target, only: readonly ManifestTable[]): Promise<Loaded> {
  const tables: RestoredTable[] = []
  const byName = new Map(only.map((table) => [`${table.schema}.${table.name}`, table]))
  // Parents first: the foreign keys are there.
  for (const name of await foreignKeyOrder(loading.main, [...byName.keys()])) {
    const table = byName.get(name)
    if (table !== undefined) tables.push(await loadIntoExisting(loading, loading.main, table))
  }
  return {
    target: target.name,
    tables,
    rows: tables.reduce((sum, table) => sum + table.rows, 0),
    sequences: 0,
    largeObjects: 0,
    skipped: [],
  }
}

function refuseOccupied(target: Target): void {
  if (target.occupiedBy !== null)
    throw new CaretakerError(
      'restore_target_not_empty',
      `The target already holds ${target.occupiedBy}. Restore into an empty database, or have everything in it deleted first with --clean ${target.name}.`,
    )
}

async function load(loading: Loading, target: Target, preData: string): Promise<Loaded> {
  const { manifest, opening, main, sessions } = loading
  const progress = (phase: 'schema' | 'sequences' | 'indexes', what: string) =>
    loading.onProgress?.({ phase, what, doneBytes: 0, totalBytes: 0 })
  const skipped: Executed['skipped'] = []
  const rules: ScriptRules = { restrictKey: manifest.restrictKey, platform: target.platform }
  const run = async (sql: string) => skipped.push(...(await runScript(main, sql, rules)).skipped)

  progress('schema', 'roles and schema')
  await run(await textOf(opening, manifest, 'roles'))
  await run(preData)
  const tables = await loadTables(loading)
  await loadLargeObjects(loading, run)
  progress('sequences', 'sequences')
  await run(await textOf(opening, manifest, 'sequences'))
  await checkSequences(main, manifest, target)
  progress('indexes', 'indexes, constraints and triggers')
  const postData = await textOf(opening, manifest, 'post-data')
  skipped.push(...(await runPostData(sessions, postData, rules, (name) => progress('indexes', name))).skipped)
  skipped.push(...(await restoreSettings(main, opening, manifest)))
  await analyze(sessions)
  return {
    target: target.name,
    tables,
    rows: tables.reduce((sum, table) => sum + table.rows, 0),
    sequences: manifest.sequences.length,
    largeObjects: manifest.largeObjects.count,
    skipped,
  }
}

/** Every table and materialised view, the largest first, on all sessions at once. */
async function analyze(sessions: readonly Session[]): Promise<void> {
  const [main] = sessions
  const relations =
    (await main?.query<{ name: string }>(
      `select format('%I.%I', n.nspname, c.relname) as name from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
     where c.relkind in ('r', 'm', 'p') and n.nspname not like 'pg\\_%' and n.nspname <> 'information_schema' and pg_has_role(c.relowner, 'usage')
     order by pg_relation_size(c.oid) desc`,
    )) ?? []
  await shareOut(sessions, relations, async (session, relation) => {
    await session.execute(`analyze ${relation.name}`)
  })
}

async function textOf(opening: Opening, manifest: Manifest, kind: ManifestObject['kind']): Promise<string> {
  const object = manifest.objects.find((candidate) => candidate.kind === kind)
  if (object === undefined) throw new CaretakerError('backup_corrupt', `The backup has no ${kind}.`)
  return readObjectText(opening, object)
}

async function loadLargeObjects(loading: Loading, run: (sql: string) => Promise<unknown>): Promise<void> {
  const { manifest, main, opening } = loading
  const [part] = manifest.largeObjects.parts
  if (part === undefined) return
  const object = partObject(manifest, part.key)
  for (const statement of largeObjectPrelude) await main.execute(statement)
  await copyObjectIn(opening, object, main, copyLargeObjectsIn, largeObjectFraming, () => undefined)
  await run(largeObjectTail)
  const [found] = await hashCuts(main, copyLargeObjectsOut, [object.contentBytes])
  if (found !== object.contentSha256)
    throw new CaretakerError('restore_mismatch', 'The restored large objects do not equal those that were backed up.')
  await run(await textOf(opening, manifest, 'large-object-owners'))
}

async function checkSequences(session: Session, manifest: Manifest, target: Target): Promise<void> {
  for (const sequence of manifest.sequences) {
    // A refusal there has been reported.
    if (target.platform !== null && isPlatformSchema(sequence.schema)) continue
    const [state] = await session.query<{ lastValue: string; isCalled: boolean }>(
      `select last_value::text as "lastValue", is_called as "isCalled" from ${qualified(sequence.schema, sequence.name)}`,
    )
    if (state?.lastValue !== sequence.lastValue || state.isCalled !== sequence.isCalled)
      throw new CaretakerError(
        'restore_mismatch',
        `Sequence ${sequence.schema}.${sequence.name} stands at ${state?.lastValue}; the backup has ${sequence.lastValue}.`,
      )
  }
}
