import { randomInt } from 'node:crypto'
import type { Context } from '../../platform/context.ts'
import { identifier, type Session } from '../../platform/db.ts'
import { requireEnv } from '../../platform/env.ts'
import { CaretakerError } from '../../platform/errors.ts'
import { cleanTarget } from '../clean-target.ts'
import { coveredUntil } from '../increments/covered-until.ts'
import type { Manifest } from '../manifest.ts'
import { readObjectText } from '../object-stream.ts'
import { runPgDump } from '../pg-dump/run-pg-dump.ts'
import type { OnProgress } from '../progress.ts'
import { requireExtensions } from '../restore/require-extensions.ts'
import { restoreBackup } from '../restore-backup.ts'
import { portable } from '../schema-sql.ts'
import { type BackupChoice, selectBackup } from '../select-backup.ts'
import { pinSession, serverVersion, withSessions } from '../sessions.ts'
import { signerOf } from '../signing/index.ts'
import { viewsFirst } from '../sql/views-first.ts'
import { openBackup } from '../verify-backup.ts'
import { destroyDrillIdentities, openDrillIdentity } from './identity.ts'
import { writeDrillRecord } from './records.ts'

/** Without `identity`, the text of an identity file, the backup's own drill identity is used. */
export interface DrillInput extends Omit<BackupChoice, 'id'> {
  /** An id, a unique beginning of one, or `latest`, which is the default. */
  id?: string | undefined
  /** A database that may be overwritten. Default: DRILL_DATABASE_URL. A secret. */
  scratchUrl?: string | undefined
  onProgress?: OnProgress
}

export interface DrillReport {
  id: string
  createdAt: string
  at: string
  /** All of it: rows equal, schema equal where it can be compared, every assertion true. */
  proven: boolean
  tables: number
  rows: number
  /** null where source and scratch are of different major versions, which write the same schema differently. */
  schemaEqual: boolean | null
  /** The first line that differs. */
  schemaDifference?: string
  assertions: { name: string; holds: boolean; problem?: string }[]
  /** If the database died now: what would be lost (RPO), and how long until it is open again (RTO), milliseconds. */
  rpoMs: number
  rtoMs: number
}

/**
 * Restores a backup into a scratch database, which is emptied before and after, and holds it against what was backed up. The
 * outcome is kept in the store; the backup's drill identity is destroyed when it is proven.
 * @throws {CaretakerError} what restoreBackup throws; `not_configured` without a scratch database; `invalid_input` when that is
 * the live one
 */
export async function drillBackup(ctx: Context, input: DrillInput = {}): Promise<DrillReport> {
  const scratchUrl = input.scratchUrl ?? requireEnv(ctx.env, 'DRILL_DATABASE_URL', 'Without --to URL a drill')
  const store = await ctx.objects()
  const choice: BackupChoice = { ...input, id: input.id ?? 'latest' }
  const manifest = await selectBackup(ctx, store, choice)
  const { id } = manifest
  const identity = manifest.encryption.kind === 'none' ? undefined : (input.identity ?? (await openDrillIdentity(ctx, store, id)))
  await refuseLive(ctx, scratchUrl)
  await onScratch(ctx, scratchUrl, async (session) => {
    await refuseOlder(session, manifest)
    await requireExtensions(session, manifest)
  })
  await onScratch(ctx, scratchUrl, takeScratch)
  try {
    const restored = await restoreBackup(ctx, {
      ...choice,
      id,
      identity,
      targetUrl: scratchUrl,
      stillJobs: true,
      readAll: true,
      ...(input.onProgress === undefined ? {} : { onProgress: input.onProgress }),
    })
    const schema = await compareSchema(ctx, manifest, identity, scratchUrl)
    const assertions = await checkAssertions(ctx, scratchUrl)
    const at = ctx.clock.now()
    // Increments reach further than the backup itself.
    const covered = (await coveredUntil(ctx, manifest.database)) ?? manifest.createdAt
    const report: DrillReport = {
      id,
      createdAt: manifest.createdAt,
      at: at.toISOString(),
      proven: schema.equal !== false && assertions.every((one) => one.holds) && restored.tables.every((table) => table.verified),
      tables: restored.tables.length,
      rows: restored.rows,
      schemaEqual: schema.equal,
      ...(schema.difference === undefined ? {} : { schemaDifference: schema.difference }),
      assertions,
      rpoMs: at.getTime() - Math.max(Date.parse(manifest.createdAt), Date.parse(covered)),
      rtoMs: restored.durationMs,
    }
    await writeDrillRecord(store, { id, at: report.at, proven: report.proven, restoreMs: report.rtoMs }, signerOf(ctx.env))
    if (report.proven) await destroyDrillIdentities(store, [id])
    ctx.log.info({ backup: id, proven: report.proven, rtoMs: report.rtoMs, rpoMs: report.rpoMs }, 'backup drilled')
    return report
  } catch (error) {
    await writeDrillRecord(store, { id, at: ctx.clock.now().toISOString(), proven: false, restoreMs: 0 }, signerOf(ctx.env))
    throw error
  } finally {
    // The scratch database holds everybody's data for as long as the drill takes, and no longer.
    await onScratch(ctx, scratchUrl, async (session) => {
      await cleanTarget(session)
      const [here] = await session.query<{ name: string }>('select current_database() as name')
      // Settings are not in the database, but of it.
      await session.execute(`alter database ${identifier(here?.name ?? '')} reset all`)
    })
  }
}

function onScratch<T>(ctx: Context, scratchUrl: string, work: (session: Session) => Promise<T>): Promise<T> {
  return withSessions(scratchUrl, ctx.env.DATABASE_CA, 1, async ([session]) => {
    if (session === undefined) throw new CaretakerError('internal', 'A drill needs a connection.')
    // The database may have been given settings that end or forbid what is done here: a drill restores those of its source.
    await pinSession(session, (await serverVersion(session)).number, { lockTimeoutMs: 0 })
    return work(session)
  })
}

/** What marks a database as one that drills may empty, whatever a killed one has left in it. */
const mark = 'caretaker: scratch database of restore drills'

/** Empties the scratch database; one that holds anything must be marked as such. */
async function takeScratch(session: Session): Promise<void> {
  const [found] = await session.query<{ name: string; marked: boolean; example: string | null }>(
    `select current_database() as name,
       coalesce(shobj_description((select oid from pg_catalog.pg_database where datname = current_database()), 'pg_database') = $1, false) as marked,
       (select n.nspname || '.' || c.relname from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
        where c.relkind in ('r', 'p', 'v', 'm', 'f', 'S') and n.nspname not like 'pg\\_%' and n.nspname <> 'information_schema'
          and not exists (select from pg_catalog.pg_depend d where d.classid = 'pg_class'::regclass and d.objid = c.oid and d.deptype = 'e') limit 1) as example`,
    [mark],
  )
  if (found === undefined) throw new CaretakerError('internal', 'A query gave no row.')
  if (found.example !== null && !found.marked)
    throw new CaretakerError(
      'restore_target_not_empty',
      `The scratch database "${found.name}" holds ${found.example}, which no drill has put there. Give an empty database.`,
    )
  await session.execute(`comment on database ${identifier(found.name)} is '${mark}'`)
  await cleanTarget(session)
}

/** Two addresses may mean one database: a lock taken in the one must not be seen in the other. */
async function refuseLive(ctx: Context, scratchUrl: string): Promise<void> {
  const key = randomInt(2 ** 31 - 1)
  return ctx.db.session(async (live) => {
    await live.query('select pg_advisory_lock($1::int, $2::int)', [0x0d_21_11, key])
    return onScratch(ctx, scratchUrl, async (scratch) => {
      const [row] = await scratch.query<{ same: boolean }>(
        `select exists (select from pg_catalog.pg_locks l
           where l.locktype = 'advisory' and l.classid = $1::int and l.objid = $2::int
             and l.database = (select oid from pg_catalog.pg_database where datname = current_database())) as same`,
        [0x0d_21_11, key],
      )
      if (row === undefined || row.same)
        throw new CaretakerError(
          'invalid_input',
          'DRILL_DATABASE_URL is the live database. A drill overwrites what it restores into: give it another.',
        )
    })
  })
}

/** Said before anything is touched, and not held against the backup: pg_dump's output is for its own version and newer ones. */
async function refuseOlder(scratch: Session, manifest: Manifest): Promise<void> {
  const [server] = await scratch.query<{ number: number; text: string }>(
    `select current_setting('server_version_num')::int as number, current_setting('server_version') as text`,
  )
  if (majorOf(server?.number ?? 0) < majorOf(manifest.database.serverVersionNumber))
    throw new CaretakerError(
      'invalid_input',
      `The scratch database is PostgreSQL ${server?.text ?? '?'}, the backup is of ${manifest.database.serverVersion}: give a drill a server of that major version, or a newer one.`,
    )
}

function majorOf(serverVersionNumber: number): number {
  return Math.trunc(serverVersionNumber / 10_000)
}

async function compareSchema(
  ctx: Context,
  manifest: Manifest,
  identity: string | undefined,
  scratchUrl: string,
): Promise<{ equal: boolean | null; difference?: string }> {
  const [server] = await onScratch(ctx, scratchUrl, (session) =>
    session.query<{ number: number }>(`select current_setting('server_version_num')::int as number`),
  )
  if (majorOf(server?.number ?? 0) !== majorOf(manifest.database.serverVersionNumber)) return { equal: null }
  const opening = openBackup(ctx, await ctx.objects(), manifest, identity)
  const restored = await runPgDump({
    databaseUrl: scratchUrl,
    ca: ctx.env.DATABASE_CA,
    signal: ctx.signal,
    runs: ['pre-data', 'post-data'].map((section) => [`--section=${section}`, ...portable, `--restrict-key=${manifest.restrictKey}`]),
  })
  for (const [index, kind] of ['pre-data', 'post-data'].entries()) {
    const object = manifest.objects.find((candidate) => candidate.kind === kind)
    if (object === undefined) throw new CaretakerError('backup_corrupt', `The backup has no ${kind}.`)
    const [expected, found] = [await readObjectText(opening, object), restored[index] ?? ''].map((script) =>
      comparable(viewsFirst(script, manifest.restrictKey)),
    )
    const difference = firstDifference(expected ?? [], found ?? [])
    if (difference !== undefined) return { equal: false, difference }
  }
  return { equal: true }
}

/** Without what is the server's: its minor version, and where on its disks things lie, which older releases wrote down. */
function comparable(sql: string): string[] {
  return sql
    .split('\n')
    .filter((line) => !line.startsWith('-- Dumped from database version') && !/^SET default_tablespace = /.test(line))
    .map((line) => line.replace(/^(-- Name: .*); Tablespace: .*$/, '$1'))
}

function firstDifference(expected: readonly string[], found: readonly string[]): string | undefined {
  const at = expected.findIndex((line, index) => line !== found[index])
  if (at >= 0) return expected[at]
  return found.length > expected.length ? found[expected.length] : undefined
}

/**
 * Each assertion of the policy is a query that gives true, asked as the app would ask: with the database's own settings, such as its search
 * path and time zone, but for as long as it takes. What it reads is not reported: it may be a person's.
 */
async function checkAssertions(ctx: Context, scratchUrl: string): Promise<DrillReport['assertions']> {
  const policy = ctx.config.backup?.drill
  const assertions = policy === false || policy === undefined ? {} : (policy.assertions ?? {})
  return withSessions(scratchUrl, ctx.env.DATABASE_CA, 1, async ([session]) => {
    if (session === undefined) throw new CaretakerError('internal', 'A drill needs a connection.')
    await session.execute('set statement_timeout = 0')
    const outcomes: DrillReport['assertions'] = []
    for (const [name, sql] of Object.entries(assertions)) {
      try {
        await session.execute('begin read only')
        const [row] = await session.query(sql)
        const holds = row !== undefined && Object.values(row)[0] === true
        outcomes.push(holds ? { name, holds } : { name, holds, problem: 'it did not give true' })
      } catch (error) {
        outcomes.push({ name, holds: false, problem: error instanceof Error ? error.message : 'unknown' })
      } finally {
        await session.execute('rollback')
      }
    }
    return outcomes
  })
}
