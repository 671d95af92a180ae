import * as z from 'zod/mini'
import type { Content } from '../../../pages/html.ts'
import { htmlResponse } from '../../../pages/layout.ts'
import { opsPage, type View } from '../../../pages/ops/shell.ts'
import { comeAgainPage, problemPage } from '../../../pages/ops/sign-in.ts'
import { flashCookie, form, matchPath, type Route, route, statusOf, takeFlash } from '../../http/index.ts'
import type { Role } from '../../platform/actor.ts'
import type { Context } from '../../platform/context.ts'
import { environmentOf } from '../../platform/environment.ts'
import { CaretakerError, errorCodes } from '../../platform/errors.ts'

/** A page: what it shows, and which item of the navigation it belongs to. */
export interface Shown {
  title: string
  main: Content
}

/** A page of the dashboard. Who is not signed in is led there and back. */
export function page(given: {
  path: string
  summary: string
  /** The item of the navigation; the path unless given. */
  current?: string
  roles: readonly Role[]
  show(ctx: Context, view: View, input: { params: Record<string, string>; query: Record<string, string> }): Promise<Shown>
}): Route {
  return route({
    methods: ['GET'],
    path: given.path,
    summary: given.summary,
    auth: { session: given.roles },
    limit: 'standard',
    async handle(ctx, { params, query, request, session }) {
      if (session === undefined) throw new CaretakerError('unauthorized', 'Sign in first.')
      const view: View = {
        app: ctx.config.app.name,
        environment: environmentOf(ctx),
        timezone: ctx.config.app.timezone ?? 'UTC',
        now: ctx.clock.now(),
        session,
      }
      const { title, main } = await given.show(ctx, view, { params, query })
      const told = takeFlash(request)
      return htmlResponse(opsPage(view, { title, main, current: given.current ?? given.path, flash: told?.flash }), {
        headers: told === null ? {} : { 'set-cookie': told.forget },
      })
    },
    problem: (ctx, error, input) => problem(ctx, error, { ...input, back: '/ops' }),
  })
}

/** A text that the browser saves as a file. */
export function download(given: {
  path: string
  summary: string
  roles: readonly Role[]
  mediaType: string
  fileName: string
  text(ctx: Context, params: Record<string, string>): Promise<string>
}): Route {
  return route({
    methods: ['GET'],
    path: given.path,
    summary: given.summary,
    auth: { session: given.roles },
    limit: 'standard',
    async handle(ctx, { params }) {
      return new Response(await given.text(ctx, params), {
        headers: {
          'content-type': given.mediaType,
          'content-disposition': `attachment; filename="${given.fileName}"`,
          'cache-control': 'no-store',
        },
      })
    },
    problem: (ctx, error, input) => problem(ctx, error, { ...input, back: '/ops' }),
  })
}

/**
 * What a form of a page does. It ends at a page that says what was done; what could not be done is said there too, in the
 * words of its error.
 */
export function action<S extends z.ZodMiniType>(given: {
  path: string
  summary: string
  roles: readonly Role[]
  fields?: S
  /** The page it ends at, with the route's parameters. */
  back: (params: Record<string, string>) => string
  /** Returns what was done, in a sentence; or with the page that shows it. */
  act(
    ctx: Context,
    input: { params: Record<string, string>; fields: z.infer<S>; afterwards(work: Promise<unknown>): void },
  ): Promise<string | { text: string; to: string }>
}): Route {
  return route({
    methods: ['POST'],
    path: given.path,
    summary: given.summary,
    auth: { session: given.roles },
    limit: 'standard',
    body: form(given.fields ?? z.strictObject({})),
    async handle(ctx, { params, body, request, afterwards }) {
      const done = await given.act(ctx, { params, fields: body as z.infer<S>, afterwards })
      const { text, to } = typeof done === 'string' ? { text: done, to: given.back(params) } : done
      return seeOther(to, flashCookie(request, { tone: 'ok', text }))
    },
    async problem(ctx, error, input) {
      const params = matchPath(given.path, new URL(input.request.url).pathname) ?? {}
      const back = given.back(params)
      // Another's failure, and a setting that is missing, are said like a mistake; a defect of our own has a page of its own.
      const known =
        error instanceof CaretakerError && (statusOf[error.code] < 500 || ['not_configured', 'upstream_failed'].includes(error.code))
      const told = known && !['unauthorized', 'forbidden'].includes(error.code)
      if (told) return seeOther(back, flashCookie(input.request, { tone: 'bad', text: error.detail }))
      return problem(ctx, error, { ...input, back })
    },
  })
}

/** The page after a form: loading it again repeats nothing. */
export function seeOther(to: string, ...cookies: string[]): Response {
  const headers = new Headers({ location: to, 'cache-control': 'no-store' })
  for (const cookie of cookies) headers.append('set-cookie', cookie)
  return new Response(null, { status: 303, headers })
}

const titles: Partial<Record<number, string>> = {
  403: 'Not allowed',
  404: 'Not found',
  429: 'Too many requests',
  503: 'Not available',
}

/** What a page says of a failure; who is not signed in is led to the way in. */
export async function problem(
  ctx: Context,
  error: unknown,
  input: { request: Request; requestId: string; back: string },
): Promise<Response> {
  const known = error instanceof CaretakerError ? error : new CaretakerError('internal', errorCodes.internal)
  const { request, requestId, back } = input
  const app = ctx.config.app.name
  if (known.code === 'unauthorized') {
    const { pathname, search } = new URL(request.url)
    const here = request.method === 'GET' || request.method === 'HEAD' ? pathname + search : back
    const site = request.headers.get('sec-fetch-site')
    // From a link in a chat or a mail: the cookie was left at home.
    if (request.method === 'GET' && (site === 'cross-site' || site === 'same-site')) return htmlResponse(comeAgainPage({ app, to: here }))
    return seeOther(here === '/ops' ? '/ops/sign-in' : `/ops/sign-in?to=${encodeURIComponent(here)}`)
  }
  const status = statusOf[known.code]
  const detail = status === 500 && known.code !== 'internal' ? errorCodes[known.code] : known.detail
  return htmlResponse(problemPage({ app, title: titles[status] ?? 'That did not work', detail, code: known.code, requestId, back }), {
    status,
    headers: known.retryAfterSeconds === undefined ? {} : { 'retry-after': String(known.retryAfterSeconds) },
  })
}

/** The page of this dashboard that `to` names; the overview for anything else, such as another site. */
export function ownPage(to: string | undefined): string {
  if (to === undefined || !/^\/ops(?=$|[/?])/.test(to) || /[\\\s]|\/\//.test(to)) return '/ops'
  const url = new URL(to, 'https://here.invalid')
  return url.host === 'here.invalid' && /^\/ops(\/|$)/.test(url.pathname) ? url.pathname + url.search : '/ops'
}
