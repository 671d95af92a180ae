import { randomBytes } from 'node:crypto'
import type { Content } from '../../../pages/html.ts'
import { type Flash, htmlResponse } from '../../../pages/layout.ts'
import type { Refused } from '../../../pages/ops/form.ts'
import { opsPage, type View } from '../../../pages/ops/shell.ts'
import { comeAgainPage, problemPage } from '../../../pages/ops/sign-in.ts'
import { type Failed, type FormFields, matchPath, type Route, route, type Session, statusOf, takeFlash } from '../../http/index.ts'
import type { Role } from '../../platform/actor.ts'
import type { Context } from '../../platform/context.ts'
import { environmentOf } from '../../platform/environment.ts'
import { CaretakerError, errorCodes } from '../../platform/errors.ts'

/** A page: what it shows, and which item of the navigation it belongs to. */
export interface Shown {
  title: string
  main: Content
}

export interface Asked {
  params: Record<string, string>
  query: Record<string, string>
}

/** A page of the dashboard as a route, and as what a form that was refused comes back on. */
export interface PageRoute extends Route {
  roles: readonly Role[]
  draw(ctx: Context, session: Session, asked: Asked, more?: Drawing): Promise<Response>
}

export interface Drawing {
  refused?: Refused
  /** What is said at the top; it may depend on what was drawn. */
  flash?: () => Flash
  status?: number
  headers?: [name: string, value: string][]
}

/** A page of the dashboard. Who is not signed in is led there and back. */
export function page(given: {
  path: string
  summary: string
  /** The item of the navigation; the path unless given. */
  current?: string
  roles: readonly Role[]
  show(ctx: Context, view: View, input: Asked): Promise<Shown>
}): PageRoute {
  const draw = async (ctx: Context, session: Session, asked: Asked, more: Drawing = {}) => {
    const view: View = {
      app: ctx.config.app.name,
      environment: environmentOf(ctx),
      timezone: ctx.config.app.timezone ?? 'UTC',
      now: ctx.clock.now(),
      session,
      once: randomBytes(12).toString('base64url'),
      refused: more.refused,
    }
    const { title, main } = await given.show(ctx, view, asked)
    return htmlResponse(opsPage(view, { title, main, current: given.current ?? given.path, flash: more.flash?.() }), {
      ...(more.status === undefined ? {} : { status: more.status }),
      ...(more.headers === undefined ? {} : { headers: more.headers }),
    })
  }
  return {
    ...route({
      methods: ['GET'],
      path: given.path,
      summary: given.summary,
      auth: { session: given.roles },
      limit: 'standard',
      async handle(ctx, { params, query, request, session }) {
        if (session === undefined) throw new CaretakerError('unauthorized', 'Sign in first.')
        const told = takeFlash(request)
        const more: Drawing = told === null ? {} : { flash: () => told.flash, headers: [['set-cookie', told.forget]] }
        return draw(ctx, session, { params, query }, more)
      },
      problem: (ctx, error, failed) => problem(ctx, error, { ...failed, back: '/ops' }),
    }),
    roles: given.roles,
    draw,
  }
}

/** The page at an address of this site, as somebody of that role may see it; undefined where there is none. */
export function pageAt(pages: readonly PageRoute[], address: string, role: Role): { page: PageRoute; asked: Asked } | undefined {
  const { pathname, searchParams } = new URL(address, 'http://here.invalid')
  for (const one of pages) {
    const params = matchPath(one.path, pathname)
    if (params === null) continue
    return one.roles.includes(role) ? { page: one, asked: { params, query: Object.fromEntries(searchParams) } } : undefined
  }
  return undefined
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
    problem: (ctx, error, failed) => problem(ctx, error, { ...failed, back: '/ops' }),
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

/** The way in, and from there back to that page. */
export function signInAddress(here: string): string {
  return here === '/ops' ? '/ops/sign-in' : `/ops/sign-in?to=${encodeURIComponent(here)}`
}

/** What a page says of a failure; who is not signed in is led to the way in. */
export async function problem(
  ctx: Context,
  error: unknown,
  input: Pick<Failed, 'request' | 'requestId'> & { back: string; typed?: FormFields | null },
): Promise<Response> {
  const known = error instanceof CaretakerError ? error : new CaretakerError('internal', errorCodes.internal)
  const { request, requestId, back, typed = null } = input
  const app = ctx.config.app.name
  if (known.code === 'unauthorized') {
    const { pathname, search } = new URL(request.url)
    const here = request.method === 'GET' || request.method === 'HEAD' ? pathname + search : back
    const site = request.headers.get('sec-fetch-site')
    // From a link in a chat or a mail: the cookie was left at home.
    if (request.method === 'GET' && (site === 'cross-site' || site === 'same-site')) return htmlResponse(comeAgainPage({ app, to: here }))
    return seeOther(signInAddress(here))
  }
  const status = statusOf[known.code]
  const detail = status === 500 && known.code !== 'internal' ? errorCodes[known.code] : known.detail
  return htmlResponse(
    problemPage({ app, title: titles[status] ?? 'That did not work', detail, code: known.code, requestId, back, typed }),
    {
      status,
      headers: known.retryAfterSeconds === undefined ? {} : { 'retry-after': String(known.retryAfterSeconds) },
    },
  )
}

/** The page of this dashboard that `to` names; the overview for anything else, such as another site. */
export function ownPage(to: string | undefined): string {
  if (to === undefined || !/^\/ops(?=$|[/?])/.test(to) || /[\\\s]|\/\//.test(to)) return '/ops'
  const url = new URL(to, 'https://here.invalid')
  return url.host === 'here.invalid' && /^\/ops(\/|$)/.test(url.pathname) ? url.pathname + url.search : '/ops'
}
