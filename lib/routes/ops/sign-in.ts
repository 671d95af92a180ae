import { randomBytes } from 'node:crypto'
import * as z from 'zod/mini'
import type { Html } from '../../../pages/html.ts'
import { type Flash, htmlResponse } from '../../../pages/layout.ts'
import { everyone } from '../../../pages/ops/shell.ts'
import { type Kept, signInPage } from '../../../pages/ops/sign-in.ts'
import {
  assertSignInCounts,
  endSession,
  type Failed,
  findSession,
  flashCookie,
  forgetSession,
  form,
  matchPath,
  noteSignIn,
  type Route,
  route,
  signInWithKey,
  signInWithPassword,
  statusOf,
  takeFlash,
} from '../../http/index.ts'
import type { Context } from '../../platform/context.ts'
import { CaretakerError, hasCode } from '../../platform/errors.ts'
import type { ActionRoute } from './action.ts'
import { ownPage, problem, seeOther } from './page.ts'

const text = (most: number) => z.optional(z.string().check(z.maxLength(most)))
/** What somebody wrote before, as JSON: two of the longest texts of a form, of nothing but line breaks. */
const keptLength = 200_000

/** The way in and out. What fails says so on the page, and never whether an account exists. */
export const signIn = (actions: readonly ActionRoute[]): Route[] => [
  route({
    methods: ['GET'],
    path: '/ops/sign-in',
    summary: 'The page on which an operator signs in',
    auth: 'public',
    limit: 'standard',
    async handle(ctx, { query, request }) {
      const told = takeFlash(request)
      return htmlResponse(showSignIn(ctx, request, { to: ownPage(query.to), flash: told?.flash }), {
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
    body: form(
      z.strictObject({ to: text(2_000), key: text(200), email: text(320), password: text(1_000), code: text(12), kept: text(keptLength) }),
    ),
    async handle(ctx, { body, request, network, once }) {
      const to = ownPage(body.to)
      const kept = readKept(body.kept)
      try {
        if (kept !== undefined && once !== undefined) await assertSignInCounts(ctx, once)
      } catch (error) {
        // Who sends it now may be somebody else: nothing that was written comes with it.
        if (!hasCode(error, 'unauthorized')) throw error
        return answer(ctx, request, error, { to })
      }
      try {
        const cookies = await enter(ctx, request, { ...body, network })
        if (kept === undefined) return seeOther(to, ...cookies)
        const shown = await showKept(actions, ctx, request, cookies, kept, once)
        return shown ?? seeOther(to, ...cookies, flashCookie(request, { tone: 'bad', text: notShown }, to))
      } catch (error) {
        if (!(error instanceof CaretakerError) || statusOf[error.code] === 500) throw error
        ctx.log.info({ code: error.code }, 'sign-in refused')
        return answer(ctx, request, error, { to, kept, email: body.email, wrong: wrongField(body, error) })
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
      seeOther('/ops/sign-in', await endSession(ctx, request), said(request, { tone: 'ok', text: 'You are signed out.' })),
    async problem(ctx, error, failed) {
      const { request } = failed
      const code = error instanceof CaretakerError ? error.code : 'internal'
      if (code === 'forbidden') return problem(ctx, error, { ...failed, back: '/ops' })
      const forget = forgetSession(request)
      // Signed out already.
      if (code === 'unauthorized') return seeOther('/ops/sign-in', forget)
      const text = `This browser has forgotten the session, but it could not be ended (${code}): until it is over by itself, within eight hours, a copy of its cookie would still open it.`
      return seeOther('/ops/sign-in', forget, said(request, { tone: 'bad', text }))
    },
  }),
]

const notShown = 'You are signed in. What was written before cannot be shown to you here, and nothing was done with it.'

function said(request: Request, flash: { tone: 'ok' | 'bad'; text: string }): string {
  return flashCookie(request, flash, '/ops/sign-in')
}

interface Entering {
  key?: string | undefined
  email?: string | undefined
  password?: string | undefined
  code?: string | undefined
}

async function enter(ctx: Context, request: Request, given: Entering & { network: string }): Promise<string[]> {
  const { key, email, password, code, network } = given
  if (isGiven(key)) return [await signInWithKey(ctx, request, key)]
  if (isGiven(email) && isGiven(password)) return signInWithPassword(ctx, request, { email, password, code, network })
  throw new CaretakerError('bad_request', 'Enter an operator key, or an e-mail address and a password.')
}

function isGiven(text: string | undefined): text is string {
  return text !== undefined && text !== ''
}

/** The field to look at again; never one of two that would say whether an account exists. */
function wrongField(
  { key, email, password }: Entering,
  { code, detail }: CaretakerError,
): 'key' | 'email' | 'password' | 'code' | undefined {
  if (code === 'bad_request') return email === undefined ? 'key' : isGiven(email) ? 'password' : 'email'
  if (code !== 'unauthorized') return undefined
  return isGiven(key) ? 'key' : isGiven(password) && detail.includes('authenticator app') ? 'code' : 'password'
}

/** Fields that a page of ours wrote into the form of its own accord; anything else is nothing. */
function readKept(text: string | undefined): Kept | undefined {
  const shape = z.strictObject({ action: z.string(), fields: z.record(z.string(), z.union([z.string(), z.array(z.string())])) })
  try {
    const parsed = text === undefined ? undefined : shape.safeParse(JSON.parse(text))
    return parsed?.success === true ? parsed.data : undefined
  } catch {
    return undefined
  }
}

/** The page of the form that was sent when the session had ended, with what was written; null where who signed in may not see it. */
async function showKept(
  actions: readonly ActionRoute[],
  ctx: Context,
  request: Request,
  cookies: readonly string[],
  { action, fields }: Kept,
  once: string | undefined,
): Promise<Response | null> {
  const route = actions.find(({ path }) => matchPath(path, action) !== null)
  if (route === undefined) return null
  const cookie = cookies[0]?.split(';')[0] ?? ''
  const { actor, session } = await findSession(ctx, new Request(request.url, { headers: { cookie } }))
  if (once !== undefined) await noteSignIn(ctx, session, once)
  return route
    .showAgain({ ...ctx, actor }, session, action, fields, {
      flash: { tone: 'none', text: 'You are signed in. Nothing was done yet: look at what you wrote, and send it.' },
      headers: cookies.map((one) => ['set-cookie', one]),
    })
    .catch(() => null)
}

/** The page on which one signs in. */
export function showSignIn(
  ctx: Context,
  request: Request,
  shown: {
    to: string
    flash: Flash | undefined
    kept?: Kept | undefined
    email?: string | undefined
    wrong?: ReturnType<typeof wrongField>
  },
): Html {
  return signInPage({
    app: ctx.config.app.name,
    ...shown,
    once: randomBytes(12).toString('base64url'),
    supabase: ctx.env.SUPABASE_URL !== undefined && ctx.env.SUPABASE_SERVICE_ROLE_KEY !== undefined,
    local: new URL(request.url).hostname === 'localhost',
  })
}

function answer(
  ctx: Context,
  request: Request,
  error: CaretakerError,
  shown: { to: string; kept?: Kept | undefined; email?: string | undefined; wrong?: ReturnType<typeof wrongField> },
): Response {
  return htmlResponse(showSignIn(ctx, request, { ...shown, flash: { tone: 'bad', text: error.detail } }), {
    status: statusOf[error.code],
    headers: error.retryAfterSeconds === undefined ? {} : { 'retry-after': String(error.retryAfterSeconds) },
  })
}

const labels = { key: 'Key', email: 'E-mail address', password: 'Password', code: 'Code' } as const

async function refused(ctx: Context, error: unknown, { request, fields }: Failed): Promise<Response> {
  const known = error instanceof CaretakerError ? error : new CaretakerError('internal', 'Something went wrong on our side.')
  const sent = (await fields()) ?? {}
  const one = (name: string) => [sent[name]].flat()[0]
  const shown = { to: ownPage(one('to')), kept: readKept(one('kept')), email: one('email') }
  const [issue] = known.issues
  if (issue === undefined) return answer(ctx, request, known, shown)
  // What was found there may be a password in the wrong field: it is not repeated.
  const expected = issue.message.replace(/^found [\s\S]*?, (?=expected)/, '')
  const wrong = (['key', 'email', 'password', 'code'] as const).find((name) => name === issue.path)
  const detail = wrong === undefined ? 'This form is not accepted. Open the page again.' : `${labels[wrong]}: ${expected}.`
  return answer(ctx, request, new CaretakerError('invalid_input', detail), { ...shown, wrong })
}
