import { createHash } from 'node:crypto'
import type { Context } from '../../platform/context.ts'
import { qualified, type Session } from '../../platform/db.ts'
import { CaretakerError, sqlState } from '../../platform/errors.ts'
import { parseIdentities } from '../age/index.ts'
import type { RestoredTable } from '../load-tables.ts'
import type { ManifestTable } from '../manifest.ts'
import type { Opening } from '../object-stream.ts'
import type { OnProgress } from '../progress.ts'
import { findRestore, type Journal } from '../restore/journal.ts'
import { type RestoreReport, restoreBackup } from '../restore-backup.ts'
import type { BackupChoice } from '../select-backup.ts'
import { literal } from '../sequences.ts'
import { withSessions } from '../sessions.ts'
import type { TrustInput } from '../signing/index.ts'
import { nameOf } from '../table-name.ts'
import { checkObjects } from '../verify-backup.ts'
import { ChangeApplier, type Repeated } from './apply-changes.ts'
import { formatInstant, parseInstant } from './instant.ts'
import { planRestore, type RestorePlan } from './plan-restore.ts'
import { formatLsn } from './position.ts'
import { replaySegments, type Survey, surveySegments } from './read-changes.ts'
import { refreshViews } from './refresh-views.ts'
import type { Segment } from './segment.ts'
import { requireStillable, stillTarget } from './still-target.ts'
import { streamFolder } from './stream.ts'
import { readTargetTables } from './target-table.ts'

export interface RestoreAtInput extends Omit<BackupChoice, 'id'> {
  /** An ISO time (UTC where it names no zone), or `latest`. */
  at: string
  /** The full backup to start from; the newest before `at` where it is absent or `latest`. */
  id?: string | undefined
  /** The empty database to restore into. A secret. */
  targetUrl: string
  clean?: string | undefined
  /** Go on with the restore of this moment that the target holds a part of; from the beginning where it is empty. */
  resume?: boolean | undefined
  readAll?: boolean | undefined
  /** Called when the moment is reached, before the restore is noted to be at its end; again, when it is resumed. */
  beforeOpening?: (() => Promise<unknown>) | undefined
  onProgress?: OnProgress
}

export interface RestoreAtReport {
  /** The moment that was asked for. */
  at: string
  base: RestoreReport
  target: string
  /** The last transaction that is in the restored database; null where nothing follows the full backup. */
  reached: { commitTime: string; lsn: string } | null
  /** The newest moment that could have been asked for. */
  newest: string
  transactions: number
  changes: number
  /** How triggers and foreign keys were kept still; null where there was nothing to repeat. */
  stilled: string | null
  /** What the increments could not bring to the moment, and is as the full backup has it. */
  asOfBase: { what: string; why: string }[]
  /** What does not hold, or may not be as it was. */
  problems: string[]
  durationMs: number
}

/**
 * Restores the state of one moment into an empty database: the last full backup before it, and every transaction that
 * committed by then, whole and in the order of their commits.
 * @throws {CaretakerError} `invalid_input` for a moment that nothing brings back, with the oldest or newest that can be;
 * `backup_corrupt`, `backup_identity` and `restore_target_not_empty` before the first row is written; `restore_mismatch`
 */
export async function restoreAt(ctx: Context, input: RestoreAtInput): Promise<RestoreAtReport> {
  const startedMs = ctx.clock.monotonicMs()
  const begun = input.resume === true ? await meantMoment(ctx, input) : null
  const plan = await planRestore(ctx, { ...input, ...begun })
  const opening = plan.segments.length === 0 ? null : await openSegments(ctx, plan, input)
  const survey = opening === null ? null : await surveyPlan(plan, opening)
  if (plan.segments.length > 0) await checkTarget(ctx, input)
  let applied = nothingApplied
  let frozen = new Map<string, string>()
  const base = await restoreBackup(ctx, {
    ...trusting(input),
    id: plan.base.id,
    targetUrl: input.targetUrl,
    clean: input.clean,
    resume: input.resume,
    readAll: input.readAll,
    bound: { at: formatInstant(plan.at), increments: digestOfSegments(plan, survey) },
    async afterAll({ main, journal, tables }) {
      frozen = frozenTables(plan, tables, survey)
      if (opening !== null && survey !== null)
        applied = await applyPlan(main, {
          plan,
          opening,
          survey,
          journal,
          frozen: new Set(frozen.keys()),
          onProgress: input.onProgress,
        })
      await input.beforeOpening?.()
    },
    ...(input.onProgress === undefined ? {} : { onProgress: input.onProgress }),
  })
  const { reached } = applied
  return {
    at: formatInstant(plan.at),
    base,
    target: base.target,
    reached: reached === null ? null : { commitTime: formatInstant(reached.at), lsn: formatLsn(reached.lsn) },
    newest: formatInstant(plan.newest),
    transactions: applied.transactions,
    changes: applied.changes,
    stilled: applied.stilled,
    asOfBase: [...frozen].map(([what, why]) => ({ what, why })).concat(otherwiseAsOfBase(plan)),
    problems: [
      ...plan.passedOver,
      ...plan.schemaChanges.map(
        (change) =>
          `The schema changed between ${change.after} and ${change.before}: what was restored has the schema of ${plan.base.createdAt}, and no rows of tables made since.`,
      ),
      ...applied.problems,
    ],
    durationMs: Math.round(ctx.clock.monotonicMs() - startedMs),
  }
}

/** What a restore that was broken off means: `latest` is by now another moment perhaps, and the newest full backup another one. */
async function meantMoment(ctx: Context, input: RestoreAtInput): Promise<{ at: string; id: string } | null> {
  const found = await withSessions(input.targetUrl, ctx.env.DATABASE_CA, 1, async ([session]) =>
    session === undefined ? null : findRestore(session),
  )
  if (found?.bound == null || !('at' in found.bound)) return null
  const { at } = found.bound
  const asked = input.at === 'latest' ? null : parseInstant(input.at)
  const other = input.id !== undefined && input.id !== 'latest' && input.id !== found.backupId
  // What is not the same is refused when the full backup is looked at: here only what was left open is filled in.
  return asked !== null && asked !== parseInstant(at) ? null : { at, id: other ? (input.id ?? '') : found.backupId }
}

/** Changes when anything would be repeated otherwise. */
function digestOfSegments(plan: RestorePlan, survey: Survey | null): string {
  const objects = plan.segments.map(({ number, object }) => [number, object?.contentSha256 ?? null])
  return createHash('sha256')
    .update(JSON.stringify([plan.stream?.id ?? null, objects, survey?.stop ?? null]))
    .digest('hex')
}

/** What would end the restore behind the full backup is said before it. */
async function checkTarget(ctx: Context, input: RestoreAtInput): Promise<void> {
  await withSessions(input.targetUrl, ctx.env.DATABASE_CA, 1, async ([session]) => {
    if (session === undefined) throw new CaretakerError('internal', 'A restore needs a connection.')
    await requireStillable(session, { cleaned: input.clean !== undefined })
  })
}

function trusting({ signers, trustUnsigned, identity }: RestoreAtInput): TrustInput {
  return { signers, trustUnsigned, identity }
}

async function openSegments(ctx: Context, plan: RestorePlan, input: RestoreAtInput): Promise<Opening> {
  const encrypted = plan.segments.some((segment) => segment.encryption === 'age')
  if (encrypted && input.identity === undefined)
    throw new CaretakerError('backup_identity', 'The increments are encrypted; give the identity file with --identity.')
  const opening: Opening = {
    store: await ctx.objects(),
    folder: streamFolder(plan.stream?.id ?? ''),
    encrypted,
    identities: encrypted && input.identity !== undefined ? parseIdentities(input.identity) : [],
    signal: ctx.signal,
  }
  const objects = plan.segments.flatMap((segment) => (segment.object === null ? [] : [segment.object]))
  await checkObjects(opening, objects, input.onProgress)
  return opening
}

/** Reads what has to be known before the first row is written: where the moment is, and whether all before it can be repeated. */
async function surveyPlan(plan: RestorePlan, opening: Opening): Promise<Survey> {
  const blind = plan.segments.flatMap((segment) => segment.gaps.map(nameOf))
  // Otherwise only the end is looked for: nothing else in them can be in the way.
  const all = blind.length > 0 || plan.schemaChanges.length > 0
  const beyond = (segment: Segment) => segment.maxCommitAt !== null && (parseInstant(segment.maxCommitAt) ?? 0n) > plan.at
  const survey = await surveySegments(
    opening,
    plan.segments.filter((segment) => all || beyond(segment)),
    {
      visible: plan.base.snapshot.visible,
      at: plan.at,
      tables: new Map(plan.base.tables.map((table) => [nameOf(table), columnsOf(table)])),
      noIdentity: new Set(blind),
    },
  )
  if (survey.misfit !== null) {
    const { table, column, at, previous } = survey.misfit
    const what =
      column === null
        ? `Rows of ${table}, which it does not have,`
        : `Rows of ${table} with a column "${column}", which it does not have there,`
    throw new CaretakerError(
      'invalid_input',
      `--at ${formatInstant(plan.at)}: the schema has changed since the full backup of ${plan.base.createdAt}. ${what} were committed at ${at}. ${previous === null ? `That backup itself can be restored` : `The newest moment before that is ${previous}`}.`,
    )
  }
  return survey
}

/** null where the backup is of a release that did not write down which columns are computed. */
function columnsOf(table: ManifestTable): ReadonlySet<string> | null {
  return table.generated === undefined ? null : new Set([...table.columns, ...table.generated])
}

/** Tables that stay as the base has them, each with the reason. */
function frozenTables(plan: RestorePlan, tables: readonly RestoredTable[], survey: Survey | null): Map<string, string> {
  const frozen = new Map<string, string>()
  for (const table of tables) if (table.problem !== undefined) frozen.set(table.table, table.problem)
  for (const table of plan.base.tables) if (table.condition !== null) frozen.set(nameOf(table), 'The table belongs to an extension.')
  for (const [name, since] of survey?.gaps ?? [])
    frozen.set(name, `It has no primary key, and from ${since} on rows were updated or deleted that the log does not name.`)
  return frozen
}

function otherwiseAsOfBase(plan: RestorePlan): { what: string; why: string }[] {
  if (plan.segments.length === 0 || plan.base.largeObjects.count === 0) return []
  return [{ what: 'large objects', why: 'PostgreSQL does not decode them.' }]
}

interface Application {
  plan: RestorePlan
  opening: Opening
  survey: Survey
  journal: Journal
  frozen: ReadonlySet<string>
  onProgress: OnProgress | undefined
}

interface Applied {
  reached: { lsn: bigint; at: bigint } | null
  transactions: number
  changes: number
  stilled: string | null
  problems: string[]
}

const nothingApplied: Applied = { reached: null, transactions: 0, changes: 0, stilled: null, problems: [] }

async function applyPlan(session: Session, application: Application): Promise<Applied> {
  const { plan, opening, survey, journal, frozen, onProgress } = application
  const total = plan.segments.reduce((sum, segment) => sum + segment.changes, 0)
  const tables = await readTargetTables(session)
  const stilled = await stillTarget(session, journal)
  const known = new Set(plan.base.tables.map(nameOf))
  const repeated = (journal.detailOf('changes') as Repeated | undefined) ?? null
  const applier = new ChangeApplier(session, {
    from: repeated,
    noting: (far) => journal.moving('changes', far),
    tables: new Map([...tables].filter(([name]) => known.has(name))),
    frozen,
    onProgress: (changes) => onProgress?.({ phase: 'load', what: `changes: ${changes} of at most ${total}`, doneBytes: 0, totalBytes: 0 }),
  })
  await replaySegments(
    opening,
    plan.segments,
    { visible: plan.base.snapshot.visible, stop: survey.stop, after: repeated?.place ?? null },
    applier,
  )
  await applier.flush()
  const problems = await setSequences(session, plan.last)
  problems.push(...(await stilled.restore(applier.touched)))
  problems.push(...(await refreshViews(session)))
  for (const table of applier.touched) await session.execute(`analyze ${table}`)
  return {
    reached: applier.last,
    transactions: applier.transactions,
    changes: applier.changes,
    stilled: stilled.how,
    problems,
  }
}

/**
 * Sequences as they stood at the end of the last segment, so that none is behind a key given out by the moment; and where
 * one was set back since, as TRUNCATE can, at the highest key there is.
 */
async function setSequences(session: Session, last: Segment | null): Promise<string[]> {
  const problems: string[] = []
  for (const sequence of last?.sequences ?? []) {
    const name = qualified(sequence.schema, sequence.name)
    const [there] = await session.query<{ there: boolean }>('select to_regclass($1) is not null as there', [name])
    if (there?.there !== true) continue
    try {
      await session.execute('select pg_catalog.setval($1::regclass, $2::int8, $3::bool)', [name, sequence.lastValue, sequence.isCalled])
      await raiseToKeys(session, name)
    } catch (error) {
      if (sqlState(error) !== '42501') throw error
      problems.push(`Sequence ${sequence.schema}.${sequence.name} was left as the full backup has it: this role may not set it.`)
    }
  }
  return problems
}

async function raiseToKeys(session: Session, sequence: string): Promise<void> {
  const [owner] = await session.query<{ table: string; column: string; increment: string }>(
    `select d.refobjid::regclass::text as table, quote_ident(a.attname) as column, s.seqincrement::text as increment
     from pg_catalog.pg_depend d join pg_catalog.pg_attribute a on a.attrelid = d.refobjid and a.attnum = d.refobjsubid
     join pg_catalog.pg_sequence s on s.seqrelid = d.objid
     where d.classid = 'pg_class'::regclass and d.refclassid = 'pg_class'::regclass and d.deptype in ('a', 'i') and d.objid = $1::regclass
       and a.atttypid in ('int2'::regtype, 'int4'::regtype, 'int8'::regtype)`,
    [sequence],
  )
  if (owner === undefined || owner.increment.startsWith('-')) return
  await session.execute(
    `select pg_catalog.setval(${literal(sequence)}, m.highest) from (select max(${owner.column})::int8 as highest from ${owner.table}) m, ${sequence} s
     where m.highest > s.last_value or (m.highest = s.last_value and not s.is_called)`,
  )
}
