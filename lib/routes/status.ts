import { htmlResponse } from '../../pages/layout.ts'
import { nextOfEach } from '../../pages/maintenance.ts'
import { atomFeed } from '../../pages/status/feed.ts'
import { type PublicStatus, publicStatus } from '../../pages/status/model.ts'
import { statusJson } from '../../pages/status/status-json.ts'
import { componentPage, statusPage, statusProblem } from '../../pages/status/status-page.ts'
import { statuspageDocuments } from '../../pages/status/statuspage-json.ts'
import { publicIncidents } from '../alerts/index.ts'
import { canonicalName } from '../config/index.ts'
import { listMaintenance, liveHistory, statusHistory } from '../health/index.ts'
import { json, type Route, route } from '../http/index.ts'
import type { Context } from '../platform/context.ts'
import type { Database } from '../platform/db.ts'
import { CaretakerError } from '../platform/errors.ts'

const days = 90
/** How far ahead maintenance is announced. */
const aheadMs = 7 * 86_400_000
/** A database that says nothing for so long counts as gone: the page must not hang with it. */
const patienceMs = 3_000
/** How long one reading serves everybody who asks this instance. */
const keptMs = 5_000

const publicGet = { methods: ['GET'], auth: 'public', limit: 'standard' } as const

/** The public status page and its other forms. */
export const status = (): Route[] => [
  route({
    ...publicGet,
    path: '/status',
    summary: 'The status page',
    problem,
    async handle(ctx, { request }) {
      const found = await read(ctx, request)
      return htmlResponse(statusPage(found), { headers: headers(found) })
    },
  }),
  route({
    ...publicGet,
    path: '/status.json',
    summary: 'What the status page shows',
    async handle(ctx, { request }) {
      const found = await read(ctx, request)
      return json(statusJson(found), { headers: { ...headers(found), ...anyOrigin } })
    },
  }),
  route({
    ...publicGet,
    path: '/status/feed.atom',
    summary: 'Incidents as a feed',
    async handle(ctx, { request }) {
      const found = await read(ctx, request)
      assertComplete(found)
      return new Response(atomFeed(found), {
        headers: { ...headers(found), ...anyOrigin, 'content-type': 'application/atom+xml; charset=utf-8' },
      })
    },
  }),
  route({
    ...publicGet,
    path: '/status/:component',
    summary: 'One component on the status page',
    problem,
    async handle(ctx, { request, params }) {
      const found = await read(ctx, request)
      const component = found.components.find(({ check }) => check === canonicalName(params.component as string))
      if (component === undefined) throw new CaretakerError('not_found', 'The status page has no such component.')
      return htmlResponse(componentPage(found, component), { headers: headers(found) })
    },
  }),
  ...Object.entries(statuspageDocuments).map(([name, document]) =>
    route({
      ...publicGet,
      path: `/api/v2/${name}`,
      summary: "The status page, as Statuspage's clients read it",
      async handle(ctx, { request }) {
        const found = await read(ctx, request)
        if (/^(incidents|scheduled)/.test(name)) assertComplete(found)
        return json(document(found), { headers: { ...headers(found), ...anyOrigin } })
      },
    }),
  ),
]

/** Widgets on other sites read it: there is nothing in it but what everybody may know. */
const anyOrigin = { 'access-control-allow-origin': '*' }

/** The CDN answers most of those who come when something is down; what was read without the history is not kept. */
function headers({ complete }: PublicStatus): Record<string, string> {
  return { 'cache-control': complete ? 'public, max-age=15, s-maxage=30, stale-while-revalidate=60' : 'no-store' }
}

/** Readers take a list without entries for one whose entries are gone. @throws {CaretakerError} `database_unavailable` */
function assertComplete({ complete }: PublicStatus): void {
  if (!complete) throw new CaretakerError('database_unavailable', 'Incidents cannot be read at the moment.', { retryAfterSeconds: 30 })
}

interface Reading {
  madeAtMs: number
  status: Promise<Omit<PublicStatus, 'base'>>
}

// As with health's snapshots: it lives and dies with the pool of the instance, and losing it costs one reading.
const readings = new WeakMap<Database, Reading>()

async function read(ctx: Context, request: Request): Promise<PublicStatus> {
  if (ctx.config.status?.public === false) throw new CaretakerError('not_found', 'There is no status page.')
  const now = ctx.clock.monotonicMs()
  let reading = readings.get(ctx.db)
  if (reading === undefined || now - reading.madeAtMs >= keptMs || now < reading.madeAtMs) {
    reading = { madeAtMs: now, status: readNow(ctx) }
    readings.set(ctx.db, reading)
    reading.status.catch(() => readings.delete(ctx.db))
  }
  return { ...(await reading.status), base: baseOf(ctx, request) }
}

async function readNow(ctx: Context): Promise<PublicStatus> {
  const given = { policy: ctx.config, base: '' }
  try {
    const stored = statusHistory(ctx, { days }).then(async (history) => {
      const ahead = { from: history.now, to: new Date(history.now.getTime() + aheadMs) }
      const [incidents, maintenance] = await Promise.all([publicIncidents(ctx, { days }), listMaintenance(ctx, ahead)])
      return publicStatus({ ...given, history, incidents, maintenance: nextOfEach(maintenance), complete: true })
    })
    return await inTime(stored)
  } catch (error) {
    // When the database is what is down, the page is needed most.
    ctx.log.warn({ err: error }, 'the status page is made without its history')
    const history = await liveHistory(ctx)
    return publicStatus({ ...given, history, incidents: [], maintenance: [], complete: false })
  }
}

function inTime<T>(work: Promise<T>): Promise<T> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new CaretakerError('timeout', 'The database did not answer in time.')), patienceMs)
    work.then(resolve, reject).finally(() => clearTimeout(timer))
  })
}

/** Where people reach the page: as configured, because what is cached must not hold whatever a request called its host. */
function baseOf({ env }: Context, request: Request): string {
  const host = env.VERCEL_PROJECT_PRODUCTION_URL
  return (env.PUBLIC_URL ?? (host === undefined ? undefined : `https://${host}`) ?? new URL(request.url).origin).replace(/\/+$/, '')
}

async function problem(ctx: Context, error: unknown): Promise<Response> {
  const missing = error instanceof CaretakerError && error.code === 'not_found'
  if (!missing) throw error
  return htmlResponse(statusProblem(ctx.config.status?.title ?? ctx.config.app.name, 'There is nothing at this address'), { status: 404 })
}
