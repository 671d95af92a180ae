import * as z from 'zod/mini'
import { htmlResponse } from '../../../pages/layout.ts'
import { everyone } from '../../../pages/ops/shell.ts'
import { signInPage } from '../../../pages/ops/sign-in.ts'
import {
  endSession,
  flashCookie,
  forgetSession,
  form,
  type Route,
  route,
  signInWithKey,
  signInWithPassword,
  statusOf,
  takeFlash,
} from '../../http/index.ts'
import type { Context } from '../../platform/context.ts'
import { CaretakerError } from '../../platform/errors.ts'
import { ownPage, problem, seeOther } from './page.ts'

const text = (most: number) => z.optional(z.string().check(z.maxLength(most)))

/** The way in and out. What fails says so on the page, and never whether an account exists. */
export const signIn = (): Route[] => [
  route({
    methods: ['GET'],
    path: '/ops/sign-in',
    summary: 'The page on which an operator signs in',
    auth: 'public',
    limit: 'standard',
    async handle(ctx, { query, request }) {
      const told = takeFlash(request)
      return htmlResponse(show(ctx, request, { to: ownPage(query.to), flash: told?.flash }), {
        headers: told === null ? {} : { 'set-cookie': told.forget },
      })
    },
    problem: refused,
  }),
  route({
    methods: ['POST'],
    path: '/ops/sign-in',
    summary: 'Sign in with an operator key, or with a Supabase account',
    auth: 'public',
    limit: 'sensitive',
    bodyLimitBytes: 8 * 1024,
    body: form(z.strictObject({ to: text(2_000), key: text(200), email: text(320), password: text(1_000), code: text(12) })),
    async handle(ctx, { body, request }) {
      const to = ownPage(body.to)
      try {
        return seeOther(to, await enter(ctx, request, body))
      } catch (error) {
        if (!(error instanceof CaretakerError) || statusOf[error.code] === 500) throw error
        ctx.log.info({ code: error.code }, 'sign-in refused')
        return answer(ctx, request, error, to)
      }
    },
    problem: refused,
  }),
  route({
    methods: ['POST'],
    path: '/ops/sign-out',
    summary: 'Sign out: the session is over, wherever its cookie may be',
    auth: { session: everyone },
    limit: 'standard',
    body: form(z.strictObject({})),
    handle: async (ctx, { request }) =>
      seeOther('/ops/sign-in', await endSession(ctx, request), flashCookie(request, { tone: 'ok', text: 'You are signed out.' })),
    async problem(ctx, error, input) {
      const code = error instanceof CaretakerError ? error.code : 'internal'
      if (code === 'forbidden') return problem(ctx, error, { ...input, back: '/ops' })
      const forget = forgetSession(input.request)
      // Signed out already.
      if (code === 'unauthorized') return seeOther('/ops/sign-in', forget)
      const text = `This browser has forgotten the session, but it could not be ended (${code}): until it is over by itself, within eight hours, a copy of its cookie would still open it.`
      return seeOther('/ops/sign-in', forget, flashCookie(input.request, { tone: 'bad', text }))
    },
  }),
]

function enter(
  ctx: Context,
  request: Request,
  given: { key?: string | undefined; email?: string | undefined; password?: string | undefined; code?: string | undefined },
): Promise<string> {
  const { key, email, password, code } = given
  if (key !== undefined && key !== '') return signInWithKey(ctx, request, key)
  if (email !== undefined && email !== '' && password !== undefined && password !== '')
    return signInWithPassword(ctx, request, { email, password, code })
  throw new CaretakerError('bad_request', 'Enter an operator key, or an e-mail address and a password.')
}

function show(ctx: Context, request: Request, { to, flash }: { to: string; flash: { tone: 'ok' | 'bad'; text: string } | undefined }) {
  return signInPage({
    app: ctx.config.app.name,
    to,
    flash,
    supabase: ctx.env.SUPABASE_URL !== undefined && ctx.env.SUPABASE_SERVICE_ROLE_KEY !== undefined,
    local: new URL(request.url).hostname === 'localhost',
  })
}

function answer(ctx: Context, request: Request, error: CaretakerError, to: string): Response {
  return htmlResponse(show(ctx, request, { to, flash: { tone: 'bad', text: error.detail } }), {
    status: statusOf[error.code],
    headers: error.retryAfterSeconds === undefined ? {} : { 'retry-after': String(error.retryAfterSeconds) },
  })
}

async function refused(ctx: Context, error: unknown, { request }: { request: Request }): Promise<Response> {
  const known = error instanceof CaretakerError ? error : new CaretakerError('internal', 'Something went wrong on our side.')
  return answer(ctx, request, known, '/ops')
}
