import * as z from 'zod/mini'
import { type GdprRequest, getRequest, type OpenedRequest, requestErasure, requestExport } from '../gdpr/index.ts'
import { json, type Route, route } from '../http/index.ts'
import { claimIfIdle } from '../jobs/index.ts'
import type { Role } from '../platform/actor.ts'
import type { Context } from '../platform/context.ts'
import { requireEnv } from '../platform/env.ts'
import { CaretakerError } from '../platform/errors.ts'
import { subjectTag } from '../platform/log.ts'
import { type Wake, wakeWorker } from './wake-worker.ts'

const operators: readonly Role[] = ['admin', 'support']
/** The person needs to say nothing: the token says who asks. An operator names the person by id or e-mail address. */
const aboutWhom = z.strictObject({ subject: z.optional(z.string().check(z.minLength(1), z.maxLength(320))) })

/** What a person, or an operator for them, asks of their data. Both are queued and answered within the deadline. */
export const gdpr = ({ wake = wakeWorker }: { wake?: Wake } = {}): Route[] => [
  request('/api/gdpr/export', "Ask for a copy of a person's data", requestExport, wake),
  request('/api/gdpr/delete', 'Ask for a person to be erased', requestErasure, wake),
  route({
    methods: ['GET'],
    path: '/api/gdpr/requests/:id',
    summary: 'How far a request is',
    auth: { subject: true, operator: operators },
    limit: 'standard',
    async handle(ctx, { params }) {
      const found = await getRequest(ctx, params.id as string)
      // Another person's request is not there, as far as a person can tell.
      if (
        ctx.actor.type === 'subject' &&
        found.subjectHash !== subjectTag(requireEnv(ctx.env, 'ENCRYPTION_KEY', 'This route'), ctx.actor.id)
      )
        throw new CaretakerError('not_found', 'There is no such request.')
      return json(shown(found))
    },
  }),
]

type Ask = (ctx: Context, input: { subject: string }) => Promise<OpenedRequest>

function request(path: string, summary: string, ask: Ask, wake: Wake): Route {
  return route({
    methods: ['POST'],
    path,
    summary,
    auth: { subject: true, operator: operators },
    limit: 'sensitive',
    body: aboutWhom,
    async handle(ctx, { body }) {
      const opened = await ask(ctx, { subject: whose(ctx, body.subject) })
      await claimIfIdle(ctx, 'gdpr')
      await wake(ctx)
      return json(
        { ...shown(opened), joined: opened.joined },
        { status: opened.joined ? 200 : 202, headers: { location: `/api/gdpr/requests/${opened.id}` } },
      )
    },
  })
}

function whose(ctx: Context, named: string | undefined): string {
  if (ctx.actor.type === 'subject') {
    if (named !== undefined && named !== ctx.actor.id)
      throw new CaretakerError('forbidden', 'A person can ask for their own data only: leave "subject" out.')
    return ctx.actor.id
  }
  if (named === undefined)
    throw new CaretakerError(
      'invalid_input',
      'The body is not accepted: subject: found nothing, expected the id or the e-mail address of a person.',
      { issues: [{ path: 'subject', message: 'found nothing, expected the id or the e-mail address of a person' }] },
    )
  return named
}

function shown({ id, kind, state, receivedAt, dueAt, finishedAt, reason, receipt }: GdprRequest) {
  return { id, kind, state, receivedAt, dueAt, finishedAt, reason, receipt }
}
