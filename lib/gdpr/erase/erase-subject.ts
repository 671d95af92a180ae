import type { SupabaseClient } from '@supabase/supabase-js'
import { appendAudit } from '../../platform/audit.ts'
import { type Context, remainingMs } from '../../platform/context.ts'
import { requireEnv } from '../../platform/env.ts'
import { CaretakerError } from '../../platform/errors.ts'
import { emitEvent } from '../../platform/outbox.ts'
import type { SubjectMap } from '../map/subject-map.ts'
import { readSubjectMap, requirePolicy } from '../policy.ts'
import { byWhom, openRequest, subjectTags, tagsAsNamed } from '../requests/open-request.ts'
import { isInstalled } from '../requests/request.ts'
import { listFiles, removeFiles, supabaseIfConfigured } from '../storage-files.ts'
import { findSubject, rootExists } from '../subject.ts'
import { withSubjectLock } from '../subject-lock.ts'
import { deleteAuthUser, requireSameProject } from './auth-user.ts'
import { eraseRows, isNothing } from './erase-rows.ts'
import { finish, makeReceipt } from './finish.ts'
import { type ErasePlan, planErasure, refuseBlocked, staticBlockers } from './plan.ts'
import { identify, plannedProcessors, processors, recall } from './processors.ts'
import { addRows, findFinishedErasure, findOpenErasure, HandOver, noteWaiting, type Progress, saveProgress } from './progress.ts'
import { pseudonymKey, type SignedReceipt } from './receipt.ts'
import { eraseMentions, scanForResidue } from './residue.ts'
import { retrying } from './retry.ts'
import { journalTombstone, objectsIfConfigured, readTombstones, tombstoneOf } from './tombstone.ts'

export interface EraseInput {
  /** The person's id or e-mail address. */
  subject: string
  /** Carries out this open request and no other: where it was taken back or refused meanwhile, nothing is done. */
  request?: string
  /** True when the invocation ends soon: the erasure then stops between two steps, with `HandOver`. */
  shouldHandOver?: () => boolean
  /** What else may name the person, outside of the map's tables: each forgets by itself. */
  elsewhere?: readonly Elsewhere[]
  onProgress?: (message: string) => void
}

export interface Elsewhere {
  /** As the receipt calls it. */
  name: string
  /** @returns how many records, and in a sentence what could not be searched */
  forget(ctx: Context, identifiers: readonly string[]): Promise<{ records: number; notReached?: string }>
}

export type EraseOutcome = { status: 'erased'; request: string | null; receipt: SignedReceipt } | AlreadyErased

/** `request` and `receipt` are null where only the tombstone tells of it. */
export interface AlreadyErased {
  status: 'already-erased'
  request: string | null
  erasedAt: Date
  receipt: unknown
}

export type PlanOutcome =
  | ({
      status: 'planned'
      files: number | null
      authUser: boolean
      /** `byHand`: why it cannot be told by its interface; null where it can. */
      processors: { name: string; byHand: string | null }[]
    } & ErasePlan)
  | AlreadyErased

/**
 * What erasing the person would do: counts a table, what stays and why, what is in the way. Changes nothing.
 * @throws {CaretakerError} `subject_not_found`, `policy_invalid`, `not_configured`
 */
export async function planSubjectErasure(ctx: Context, { subject: named }: EraseInput): Promise<PlanOutcome> {
  const map = await readSubjectMap(ctx)
  const subject = await findSubject(ctx.db, map, named)
  if (subject === undefined) return (await alreadyErased(ctx, named)) ?? notFound()
  const plan = await ctx.db.transaction((tx) => planErasure(tx, map, subject.id), { isolation: 'repeatable read', readOnly: true })
  const supabase = await supabaseIfConfigured(ctx)
  const files = supabase === undefined ? null : (await listFiles(ctx, supabase, map, requirePolicy(ctx), subject.id)).length
  return {
    status: 'planned',
    files,
    authUser: supabase !== undefined && deletedByAuth(map),
    processors: await plannedProcessors(ctx),
    ...plan,
  }
}

/**
 * Erases one person: rows in one transaction, then files, then the Auth user, then the tombstone outside the database,
 * then the receipt. Each step leaves a checkpoint, so that an erasure which was killed goes on where it stopped when it is
 * asked for again. Where Caretaker is not installed nothing can be noted: the rows then go last of what can be repeated.
 *
 * @throws {CaretakerError} `subject_not_found`; `not_configured` without ENCRYPTION_KEY; `policy_invalid` when the policy and
 * the database leave no way; `request_in_progress`; `conflict`, `timeout`, `upstream_failed`: ask again, nothing is lost
 */
export async function eraseSubject(ctx: Context, input: EraseInput): Promise<EraseOutcome> {
  const key = requireEnv(
    ctx.env,
    'ENCRYPTION_KEY',
    'Erasing a person (the receipt is signed with it, and the hash that a restore finds the person by is made with it)',
  )
  const map = await readSubjectMap(ctx)
  const recorded = await isInstalled(ctx.db)
  const subject = await findSubject(ctx.db, map, input.subject)
  const tags = subject === undefined ? tagsAsNamed(key, input.subject) : subjectTags(key, subject)
  // An address may be somebody else's by now: it only leads to a request where no row has it.
  const lookup = subject === undefined ? tags : tags.slice(0, 1)
  const begun = recorded ? await findOpenErasure(ctx.db, lookup) : undefined
  const id = subject?.id ?? begun?.subject
  if (id === undefined) return (await alreadyErased(ctx, input.subject)) ?? notFound()
  if (begun === undefined && subject !== undefined && map.tables.get(map.root)?.erase.kind !== 'delete') {
    const done = recorded ? await findFinishedErasure(ctx.db, lookup) : undefined
    if (done !== undefined) return { status: 'already-erased', request: done.id, erasedAt: done.finishedAt, receipt: done.receipt }
  }

  const supabase = await supabaseIfConfigured(ctx)
  const viaAuth = supabase !== undefined && deletedByAuth(map)
  // Before anything is changed: the wrong project's Auth would delete somebody in another app.
  if (viaAuth && (await rootExists(ctx.db, map, id))) await requireSameProject(supabase, id)
  refuseBlocked({ blockers: staticBlockers(map) })
  return withSubjectLock(ctx, { table: map.root, id }, async () => {
    const open = recorded ? await findOpenErasure(ctx.db, lookup) : undefined
    // Who takes a request back while it waits for its turn must not get a new one.
    if (input.request !== undefined && open?.id !== input.request)
      throw new CaretakerError('conflict', 'The request has ended meanwhile; nothing was changed.')
    const request = open ?? (recorded ? await openedNow(ctx, id, tags) : undefined)
    // Somebody else finished it while this one waited for the lock.
    if (request === undefined && (recorded || !(await rootExists(ctx.db, map, id))))
      return (await alreadyErased(ctx, input.subject)) ?? notFound()
    const erasure: Erasure = {
      ctx,
      key,
      map,
      id,
      supabase,
      viaAuth,
      requestId: request?.id,
      progress: request?.progress ?? { tags },
      say: input.onProgress ?? (() => undefined),
      keep: (progress) => keep(erasure, progress),
      elsewhere: input.elsewhere ?? [],
      shouldHandOver: () => recorded && input.shouldHandOver?.() === true,
      identified: false,
    }
    const requestedAt = request?.receivedAt ?? ctx.clock.now()
    try {
      // Without a checkpoint the row that everything hangs from must be the last to go.
      const steps = recorded
        ? [identify, rows, files, authUser, exports, tombstone, processors, elsewhere, mentions, residue]
        : viaAuth
          ? [identify, rows, files, tombstone, processors, authUser, mentions, residue]
          : [refusals, identify, files, tombstone, processors, rows, mentions, residue]
      for (const step of steps) {
        if (erasure.shouldHandOver()) throw new HandOver()
        await step(erasure)
      }
      return await finish(ctx, request?.id, makeReceipt(erasure, requestedAt), erasure.progress, key, id)
    } catch (error) {
      if (request !== undefined && error instanceof CaretakerError && error.code !== 'database_unavailable')
        await noteWaiting(ctx, request.id, error.code).catch(() => undefined)
      throw error
    }
  })

  async function openedNow(context: Context, subjectId: string, names: string[]) {
    // The row may have gone while this one waited for the lock.
    if (!(await rootExists(context.db, map, subjectId))) return undefined
    await openRequest(context, 'erase', subjectId, names)
    return findOpenErasure(context.db, names.slice(0, 1))
  }
}

/** The Auth user is deleted by Auth, unless the policy keeps or anonymises the row. */
function deletedByAuth(map: SubjectMap): boolean {
  return map.root === 'auth.users' && map.tables.get(map.root)?.erase.kind === 'delete'
}

function notFound(): never {
  throw new CaretakerError('subject_not_found', 'There is no such person in the subject table, and no record that there was.')
}

async function alreadyErased(ctx: Context, named: string): Promise<AlreadyErased | undefined> {
  const key = ctx.env.ENCRYPTION_KEY
  if (key === undefined) return undefined
  const tags = tagsAsNamed(key, named)
  if (!(await isInstalled(ctx.db))) {
    // Where no record could be kept in the database, the journal outside of it still knows.
    const objects = await objectsIfConfigured(ctx)
    const journalled = objects === undefined ? [] : await readTombstones(objects)
    const last = journalled.filter(({ subject, names = [] }) => tags.some((tag) => tag === subject || names.includes(tag))).at(-1)
    return last === undefined ? undefined : { status: 'already-erased', request: null, erasedAt: new Date(last.erasedAt), receipt: null }
  }
  const done = await findFinishedErasure(ctx.db, tags)
  return done === undefined ? undefined : { status: 'already-erased', request: done.id, erasedAt: done.finishedAt, receipt: done.receipt }
}

export interface Erasure {
  ctx: Context
  key: string
  map: SubjectMap
  id: string
  supabase: SupabaseClient | undefined
  viaAuth: boolean
  requestId: string | undefined
  progress: Progress
  say: (message: string) => void
  /** Adds to the checkpoint, where there is one. */
  keep: (progress: Partial<Progress>) => Promise<void>
  elsewhere: readonly Elsewhere[]
  shouldHandOver: () => boolean
  /** Whether it is known what to look for. */
  identified: boolean
}

async function keep(erasure: Erasure, progress: Partial<Progress>): Promise<void> {
  Object.assign(erasure.progress, progress)
  if (erasure.requestId !== undefined) await saveProgress(erasure.ctx.db, erasure.requestId, erasure.progress)
}

async function refusals({ ctx, map, id }: Erasure): Promise<void> {
  refuseBlocked(await ctx.db.transaction((tx) => planErasure(tx, map, id), { isolation: 'repeatable read', readOnly: true }))
}

/** All rows in one transaction, with the checkpoint, the audit row and the event that speak of them. */
async function rows(erasure: Erasure): Promise<void> {
  const { ctx, map, id, requestId, progress } = erasure
  // The root row may come back to life between attempts (Auth refused): then its rows are looked for again.
  if (progress.rows !== undefined && !(erasure.viaAuth && (await rootExists(ctx.db, map, id)))) return
  const leaveTo = new Set(
    erasure.viaAuth ? [...map.tables.values()].filter(({ table }) => table.schema === 'auth').map(({ key }) => key) : [],
  )
  try {
    erasure.progress = await retrying(ctx, () =>
      ctx.db.transaction(
        async (tx) => {
          const erased = await eraseRows(tx, map, id, {
            leaveTo,
            requestId,
            now: ctx.clock.now(),
            pseudonymKey: pseudonymKey(erasure.key),
            onTable: (table, n, of) => erasure.say(`rows: ${table} (${n + 1}/${of})`),
          })
          // A further pass that found nothing is no news.
          if (progress.rows !== undefined && isNothing(erased)) return progress
          const reached: Progress = { ...progress, rows: addRows(progress.rows, erased) }
          if (requestId === undefined) return reached
          await saveProgress(tx, requestId, reached)
          await emitEvent(tx, 'gdpr.rows_erased', { request: requestId })
          const counts = {
            deleted: erased.deleted,
            anonymised: erased.anonymised,
            kept: Object.fromEntries(Object.entries(erased.kept).map(([table, { rows: n }]) => [table, n])),
          }
          await appendAudit(
            tx,
            { actor: byWhom(ctx), clock: ctx.clock },
            { action: 'gdpr.rows_erased', target: progress.tags[0] as string, detail: { request: requestId, ...counts } },
          )
          return reached
        },
        { lockTimeoutMs: 5_000, statementTimeoutMs: Math.max(5_000, Math.min(remainingMs(ctx), 3_600_000)) },
      ),
    )
  } catch (error) {
    // The plan says of every table what is in the way; the transaction only knew of the first.
    if (error instanceof CaretakerError && error.code === 'policy_invalid') await refusals(erasure)
    throw error
  }
}

async function files(erasure: Erasure): Promise<void> {
  const { ctx, map, id, supabase, progress } = erasure
  if (progress.files !== undefined || supabase === undefined) return
  const found = await listFiles(ctx, supabase, map, requirePolicy(ctx), id)
  if (found.length > 0) erasure.say(`files: ${found.length}`)
  await removeFiles(supabase, found)
  await keep(erasure, { files: found.length })
}

async function authUser(erasure: Erasure): Promise<void> {
  if (erasure.progress.authUser !== undefined) return
  if (!erasure.viaAuth || erasure.supabase === undefined) return keep(erasure, { authUser: 'not-applicable' })
  erasure.say('Auth user')
  const outcome = await deleteAuthUser(erasure.supabase, erasure.id)
  if (await rootExists(erasure.ctx.db, erasure.map, erasure.id))
    throw new CaretakerError(
      'upstream_failed',
      'Supabase Auth says that the user is deleted, but the row is still in this database: SUPABASE_URL and the database URL are of different projects.',
    )
  await keep(erasure, { authUser: outcome })
}

/** Exports made for this person before are copies of what has just been erased. */
async function exports({ ctx, progress, requestId }: Erasure): Promise<void> {
  if (progress.exports !== undefined || requestId === undefined) return
  const objects = await objectsIfConfigured(ctx)
  const made = await ctx.db.query<{ id: string; key: string }>(
    `select id, receipt ->> 'object' as key from caretaker.gdpr_requests where kind = 'export' and subject_hash = $1 and receipt ->> 'object' is not null`,
    [progress.tags[0]],
  )
  for (const { id, key } of objects === undefined ? [] : made) {
    await objects?.delete(key)
    await ctx.db.execute(`update caretaker.gdpr_requests set receipt = receipt - 'object' where id = $1::uuid`, [id])
  }
  progress.exports = made.length
  await saveProgress(ctx.db, requestId, progress)
}

/** What holds copies of the person's data outside of the map: stored webhook events. */
async function elsewhere(erasure: Erasure): Promise<void> {
  const { ctx, progress } = erasure
  if (progress.elsewhere !== undefined) return
  const { identifiers } = recall(erasure)
  const found: Record<string, number> = {}
  const notReached: string[] = []
  for (const { name, forget } of erasure.elsewhere) {
    erasure.say(name)
    const { records, notReached: why } = await forget(ctx, identifiers)
    if (records > 0) found[name] = records
    if (why !== undefined) notReached.push(why)
  }
  await keep(erasure, { elsewhere: found, ...(notReached.length > 0 ? { elsewhereNotReached: notReached } : {}) })
}

/** Other people's text that names the person, where the policy says which columns may. */
async function mentions(erasure: Erasure): Promise<void> {
  const { ctx, progress } = erasure
  if (progress.mentions !== undefined) return
  await keep(erasure, { mentions: await eraseMentions(ctx, recall(erasure).identifiers) })
}

/** Last, when everything that is known of has gone: whatever still names the person. */
async function residue(erasure: Erasure): Promise<void> {
  const { ctx, map, progress } = erasure
  if (progress.residue === undefined) {
    const found =
      requirePolicy(ctx).residue === false
        ? null
        : await scanForResidue(ctx, map, recall(erasure).identifiers, {
            onTable: (table) => erasure.say(`looking for residue: ${table}`),
            before: progress.residueSoFar,
            keep: (soFar) => keep(erasure, { residueSoFar: soFar }),
            shouldHandOver: erasure.shouldHandOver,
          })
    delete progress.residueSoFar
    await keep(erasure, { residue: found })
  }
  erasure.identified = progress.person !== undefined
  // Nothing needs to know the person by name any more.
  delete progress.person
}

async function tombstone(erasure: Erasure): Promise<void> {
  const { ctx, map, key, progress } = erasure
  if (progress.tombstone !== undefined) return
  const objects = await objectsIfConfigured(ctx)
  const subject = progress.tags[0] as string
  const journalled =
    objects === undefined
      ? null
      : await journalTombstone(objects, erasure.requestId ?? subject, tombstoneOf(map, key, progress.tags, ctx.clock.now()))
  await keep(erasure, { tombstone: journalled })
}
