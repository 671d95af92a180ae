import { PassThrough } from 'node:stream'
import { appendAudit } from '../../platform/audit.ts'
import type { Context } from '../../platform/context.ts'
import { CaretakerError } from '../../platform/errors.ts'
import type { JobOutcome, JobRun, PlanLine } from '../../platform/job.ts'
import { emitEvent } from '../../platform/outbox.ts'
import { eraseEndedKeeping } from '../erase/end-of-keeping.ts'
import { type Elsewhere, eraseSubject } from '../erase/erase-subject.ts'
import { HandOver, noteWaiting } from '../erase/progress.ts'
import { exportSubject } from '../export/export-subject.ts'
import { requirePolicy } from '../policy.ts'
import { remindDeadlines } from './deadlines.ts'
import { expireExportFiles } from './export-files.ts'
import { announceExports, forgetUnconfirmed, sendCodes } from './mailed-code.ts'
import { after } from './open-request.ts'
import { type GdprRequest, getRequest, isInstalled } from './request.ts'

/**
 * Carries out one request: an erasure, or an export into the object store (`receipt.object` is its key). Done twice it does
 * nothing the second time; killed, it goes on where it stopped.
 */
export async function processRequest(
  ctx: Context,
  requestId: string,
  run?: Pick<JobRun, 'shouldHandOver'>,
  elsewhere: readonly Elsewhere[] = [],
): Promise<GdprRequest> {
  const request = await getRequest(ctx, requestId)
  if (request.state === 'done' || request.state === 'refused' || run?.shouldHandOver() === true) return request
  if (request.state === 'received') throw new CaretakerError('conflict', 'The request is not verified yet: who asks must be known first.')
  if (request.review === 'needed')
    throw new CaretakerError('conflict', 'The request waits for an operator: approve it with `caretaker gdpr approve ID`.')
  if (request.notBefore !== null && request.notBefore > ctx.clock.now())
    throw new CaretakerError('conflict', `The person can take the request back until ${request.notBefore.toISOString()}; it begins then.`)
  const [row] = await ctx.db.query<{ subject: string | null }>('select subject from caretaker.gdpr_requests where id = $1::uuid', [
    requestId,
  ])
  const subject = row?.subject
  if (subject === undefined || subject === null) return getRequest(ctx, requestId)
  try {
    if (request.kind === 'erase')
      await eraseSubject(ctx, {
        subject,
        elsewhere,
        request: requestId,
        ...(run === undefined ? {} : { shouldHandOver: () => run.shouldHandOver() }),
      })
    else await exportToStore(ctx, requestId, subject)
  } catch (error) {
    // Taken back, refused, or erased at this moment: that is how it ended.
    const now = await getRequest(ctx, requestId)
    if (now.state === 'done' || now.state === 'refused') return now
    if (request.kind === 'export' && error instanceof CaretakerError) {
      // The app has deleted the person itself: there is nothing to export, and there never will be.
      if (error.code === 'subject_not_found') return endWithoutSubject(ctx, now)
      await noteWaiting(ctx, requestId, error.code)
    }
    throw error
  }
  return getRequest(ctx, requestId)
}

async function endWithoutSubject(ctx: Context, { id, kind, subjectHash }: GdprRequest): Promise<GdprRequest> {
  await ctx.db.transaction(async (tx) => {
    const changed = await tx.execute(
      `update caretaker.gdpr_requests set state = 'refused', reason = 'subject_not_found', subject = null, named = null, finished_at = $2::timestamptz
       where id = $1::uuid and state in ('verified', 'in_progress', 'waiting')`,
      [id, ctx.clock.now()],
    )
    if (changed === 0) return
    await emitEvent(tx, 'gdpr.refused', { request: id, kind })
    await appendAudit(
      tx,
      { actor: { type: 'system', job: 'gdpr' }, clock: ctx.clock },
      { action: 'gdpr.refused', target: subjectHash, detail: { request: id, kind, reason: 'subject_not_found' } },
    )
  })
  return getRequest(ctx, id)
}

async function exportToStore(ctx: Context, requestId: string, subject: string): Promise<void> {
  const objects = await ctx.objects()
  const key = `gdpr/exports/${requestId}.zip`
  // Noted first: an erasure must find the object even if this process ends before the export is recorded.
  const begun = await ctx.db.execute(
    `update caretaker.gdpr_requests set state = 'in_progress', receipt = coalesce(receipt, '{}') || jsonb_build_object('object', $2::text),
       file_expires_at = $3::timestamptz
     where id = $1::uuid and state in ('verified', 'in_progress', 'waiting')`,
    [requestId, key, after(ctx.clock.now(), requirePolicy(ctx).requests?.exportFile ?? '7 days')],
  )
  if (begun === 0) throw new CaretakerError('conflict', 'The request has ended meanwhile; nothing was exported.')
  const stream = new PassThrough()
  const stored = objects.put(key, stream, { contentType: 'application/zip', signal: ctx.signal })
  // Whichever fails first is the reason; the other only hears that the stream has ended.
  let refusedBy: Error | undefined
  stream.on('error', () => undefined)
  stored.catch((error: Error) => {
    refusedBy ??= error
    stream.destroy(error)
  })
  await exportSubject(ctx, {
    subject,
    request: requestId,
    out: stream,
    beforeRecord: async () => {
      await stored
    },
  }).catch((error: unknown) => {
    const reason = refusedBy ?? error
    refusedBy ??= error as Error
    stream.destroy(error as Error)
    throw reason
  })
}

/** The job `gdpr`: every request that waits for the worker, the one that is due first before the others. */
export async function processRequestsJob(ctx: Context, run: JobRun, elsewhere: readonly Elsewhere[] = []): Promise<JobOutcome> {
  const done: string[] = []
  const failed: { request: string; code: string }[] = []
  const reminded = await remindDeadlines(ctx)
  const codes = await sendCodes(ctx)
  await forgetUnconfirmed(ctx)
  const expired = await expireExportFiles(ctx)
  const kept = await eraseEndedKeeping(ctx, run.shouldHandOver)
  for (const { id } of await waitingRequests(ctx)) {
    if (run.shouldHandOver()) return { status: 'hand-over', ...(done.length > 0 ? { progress: true as const } : {}) }
    try {
      await processRequest(ctx, id, run, elsewhere)
      done.push(id)
    } catch (error) {
      if (error instanceof HandOver) return { status: 'hand-over', progress: true }
      // One person's trouble must not hold up the others; the request says what it was and is tried again.
      ctx.log.error({ err: error, request: id }, 'gdpr request failed')
      failed.push({ request: id, code: error instanceof CaretakerError ? error.code : 'internal' })
    }
  }
  const announced = await announceExports(ctx)
  if (failed.length > 0 && done.length === 0)
    throw new CaretakerError(
      'job_failed',
      `${failed.length} requests could not be carried out: ${failed.map(({ request, code }) => `${request} (${code})`).join(', ')}.`,
    )
  return { status: 'done', result: { done: done.length, failed, reminded, codes, announced, expired, kept } }
}

/** What the job would do now. */
export async function planRequests(ctx: Context): Promise<PlanLine[]> {
  if (!(await isInstalled(ctx.db))) return []
  const waiting = await waitingRequests(ctx)
  const now = ctx.clock.now().getTime()
  return waiting.map(({ id, kind, dueAt }) => ({
    action: kind === 'erase' ? `erase the person of request ${id}` : `export the person of request ${id}`,
    target: 'gdpr',
    count: null,
    unit: 'rows',
    ...(dueAt.getTime() < now ? { warnings: [`overdue since ${dueAt.toISOString().slice(0, 10)}`] } : {}),
  }))
}

async function waitingRequests(ctx: Pick<Context, 'db' | 'clock'>): Promise<{ id: string; kind: string; dueAt: Date }[]> {
  return ctx.db.query<{ id: string; kind: string; dueAt: Date }>(
    `select id, kind, due_at as "dueAt" from caretaker.gdpr_requests
     where state in ('verified', 'in_progress', 'waiting') and kind in ('export', 'erase')
       and review is distinct from 'needed' and (not_before is null or not_before <= $1::timestamptz) order by due_at, received_at limit 200`,
    [ctx.clock.now()],
  )
}
