import { Readable } from 'node:stream'
import * as z from 'zod/mini'
import {
  approveRequest,
  confirmCode,
  exportByCode,
  exportFileName,
  extendRequest,
  type GdprRequest,
  getRequest,
  type OpenedRequest,
  openExportFile,
  readConsents,
  recordConsent,
  rectifySubject,
  refuseRequest,
  requestByMail,
  requestErasure,
  requestExport,
  withdrawRequest,
} from '../gdpr/index.ts'
import { json, type Route, route } from '../http/index.ts'
import { claimIfIdle } from '../jobs/index.ts'
import type { Role } from '../platform/actor.ts'
import type { Context } from '../platform/context.ts'
import { requireEnv } from '../platform/env.ts'
import { CaretakerError } from '../platform/errors.ts'
import { subjectTag } from '../platform/log.ts'
import { codePage } from './gdpr-code-page.ts'
import { type Wake, wakeWorker } from './wake-worker.ts'

const operators: readonly Role[] = ['admin', 'support']
/** The person needs to say nothing: the token says who asks. An operator names the person by id or e-mail address. */
const someone = z.optional(z.string().check(z.minLength(1), z.maxLength(320)))
const codeGiven = z.strictObject({ code: z.string().check(z.regex(/^[\w-]{32}$/, 'expected the 32 characters of the code')) })
const aboutWhom = z.strictObject({ subject: someone })

/** What a person, or an operator for them, asks of their data. Both are queued and answered within the deadline. */
export const gdpr = ({ wake = wakeWorker }: { wake?: Wake } = {}): Route[] => [
  request('/api/gdpr/export', "Ask for a copy of a person's data", requestExport, wake),
  request('/api/gdpr/delete', 'Ask for a person to be erased', requestErasure, wake),
  route({
    methods: ['POST'],
    path: '/api/gdpr/rectify',
    summary: "Correct a person's data, in the columns that the policy names",
    auth: { subject: true, operator: operators },
    limit: 'sensitive',
    body: z.strictObject({
      subject: someone,
      corrections: z
        .array(
          z.strictObject({
            column: z.string().check(z.maxLength(200)),
            value: z.union([z.string().check(z.maxLength(10_000)), z.number(), z.boolean(), z.null()]),
            row: z.optional(z.string().check(z.maxLength(200))),
          }),
        )
        .check(z.minLength(1), z.maxLength(20)),
    }),
    async handle(ctx, { body }) {
      const {
        request: done,
        changed,
        recipients,
      } = await rectifySubject(ctx, {
        subject: whose(ctx, body.subject),
        corrections: body.corrections.map(({ row, ...rest }) => ({ ...rest, ...(row === undefined ? {} : { row }) })),
      })
      return json({ ...shown(done), changed, recipients })
    },
  }),
  route({
    methods: ['POST'],
    path: '/api/gdpr/consent',
    summary: 'Agree to a purpose, or take it back',
    auth: { subject: true, operator: operators },
    limit: 'sensitive',
    body: z.strictObject({
      subject: someone,
      purpose: z.string().check(z.maxLength(60)),
      version: z.string().check(z.maxLength(60)),
      given: z.boolean(),
      source: z._default(z.string().check(z.regex(/^[\w .:/-]{1,100}$/, 'expected the name of a form or page')), 'api'),
    }),
    async handle(ctx, { body }) {
      return json(await recordConsent(ctx, { ...body, subject: whose(ctx, body.subject) }))
    },
  }),
  route({
    methods: ['GET'],
    path: '/api/gdpr/consent',
    summary: 'What a person agrees to now',
    auth: { subject: true, operator: operators },
    limit: 'standard',
    // An address in a URL would stand in the host's logs.
    query: z.object({
      subject: z.optional(
        z.string().check(z.minLength(1), z.maxLength(320), z.regex(/^[^@]*$/, 'expected the id, because addresses end up in logs')),
      ),
    }),
    async handle(ctx, { query }) {
      return json({ consents: await readConsents(ctx, { subject: whose(ctx, query.subject) }) })
    },
  }),
  route({
    methods: ['GET'],
    path: '/api/gdpr/requests/:id',
    summary: 'How far a request is',
    auth: { subject: true, operator: operators },
    limit: 'standard',
    async handle(ctx, { params }) {
      return json(shown(await visible(ctx, params.id as string)))
    },
  }),
  route({
    methods: ['POST'],
    path: '/api/gdpr/requests/:id/withdraw',
    summary: 'Take a request back before it begins',
    auth: { subject: true, operator: operators },
    limit: 'sensitive',
    async handle(ctx, { params }) {
      const { id } = await visible(ctx, params.id as string)
      return json(shown(await withdrawRequest(ctx, id)))
    },
  }),
  decision('approve', 'Let a request be carried out that waits for a review', z.strictObject({}), async (ctx, id) => {
    const approved = await approveRequest(ctx, id)
    await claimIfIdle({ ...ctx, actor: { type: 'system' } }, 'gdpr')
    await wake(ctx)
    return approved
  }),
  decision('refuse', 'End a request with the reason that the person is told', reasonGiven, (ctx, id, { reason }) =>
    refuseRequest(ctx, id, reason),
  ),
  decision('extend', 'Two months more, once, with the reason that the person is told', reasonGiven, (ctx, id, { reason }) =>
    extendRequest(ctx, id, reason),
  ),
  route({
    methods: ['POST'],
    path: '/api/gdpr/code',
    summary: 'Ask without signing in: a code is mailed to the address, if anybody has it',
    auth: 'public',
    limit: 'sensitive',
    body: z.strictObject({
      kind: z.enum(['export', 'erase']),
      email: z.string().check(z.maxLength(320), z.regex(/^[^\s@]+@[^\s@]+$/, 'expected an e-mail address')),
    }),
    async handle(ctx, { body }) {
      await requestByMail(ctx, body)
      await claimIfIdle({ ...ctx, actor: { type: 'system' } }, 'gdpr')
      await wake(ctx)
      // The same whether or not there is such a person.
      return json({ sent: 'If the address is known, a code is on its way to it. It works for 24 hours.' }, { status: 202 })
    },
  }),
  route({
    methods: ['GET'],
    path: '/api/gdpr/confirm',
    summary: 'The page on which a person enters the code that was mailed',
    auth: 'public',
    limit: 'standard',
    async handle(ctx) {
      return codePage(ctx.config.app.name, 'confirm')
    },
  }),
  route({
    methods: ['GET'],
    path: '/api/gdpr/requests/:id/file',
    summary: 'Fetch the file of a finished export, until its time is over',
    auth: { subject: true, operator: operators },
    limit: 'sensitive',
    async handle(ctx, { params }) {
      const { id } = await visible(ctx, params.id as string)
      const file = await openExportFile(ctx, id)
      return 'url' in file ? new Response(null, { status: 303, headers: { location: file.url } }) : attachment(file)
    },
  }),
  route({
    methods: ['GET'],
    path: '/api/gdpr/download',
    summary: 'The page on which a person enters the code that fetches their export',
    auth: 'public',
    limit: 'standard',
    async handle(ctx) {
      return codePage(ctx.config.app.name, 'download')
    },
  }),
  route({
    methods: ['POST'],
    path: '/api/gdpr/download',
    summary: 'Fetch an export with the code that was mailed: its address, or the file itself',
    auth: 'public',
    limit: 'sensitive',
    body: codeGiven,
    async handle(ctx, { body }) {
      const file = await openExportFile(ctx, await exportByCode(ctx, body.code))
      return 'url' in file ? json(file) : attachment(file)
    },
  }),
  route({
    methods: ['POST'],
    path: '/api/gdpr/confirm',
    summary: 'Confirm a request with the code that was mailed; it works once',
    auth: 'public',
    limit: 'sensitive',
    body: codeGiven,
    async handle(ctx, { body }) {
      const confirmed = await confirmCode(ctx, body.code)
      await claimIfIdle({ ...ctx, actor: { type: 'system' } }, 'gdpr')
      await wake(ctx)
      return json(shown(confirmed), { status: 202 })
    },
  }),
]

function attachment({ body, bytes }: { body: Readable; bytes: number }): Response {
  return new Response(Readable.toWeb(body) as ReadableStream, {
    headers: {
      'content-type': 'application/zip',
      'content-length': String(bytes),
      'content-disposition': `attachment; filename="${exportFileName}"`,
    },
  })
}

const reasonGiven = z.strictObject({ reason: z.string().check(z.minLength(3), z.maxLength(500)) })

/** What an operator decides of an open request. */
function decision<B extends z.ZodMiniType>(
  verb: string,
  summary: string,
  body: B,
  decide: (ctx: Context, id: string, body: z.infer<B>) => Promise<GdprRequest>,
): Route {
  return route({
    methods: ['POST'],
    path: `/api/gdpr/requests/:id/${verb}`,
    summary,
    auth: { operator: operators },
    limit: 'sensitive',
    body,
    async handle(ctx, input) {
      return json(shown(await decide(ctx, input.params.id as string, input.body as z.infer<B>)))
    },
  })
}

/** The request, if the caller may see it. Another person's is not there, as far as a person can tell. */
async function visible(ctx: Context, id: string): Promise<GdprRequest> {
  const found = await getRequest(ctx, id)
  if (ctx.actor.type === 'subject' && found.subjectHash !== subjectTag(requireEnv(ctx.env, 'ENCRYPTION_KEY', 'This route'), ctx.actor.id))
    throw new CaretakerError('not_found', 'There is no request with that id.')
  return found
}

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
      // The run is not the person's: the ledger must not name them.
      await claimIfIdle({ ...ctx, actor: { type: 'system' } }, 'gdpr')
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

function shown({ subjectHash: _hash, ...request }: GdprRequest) {
  return request
}
