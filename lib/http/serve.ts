import { randomUUID } from 'node:crypto'
import type { Actor } from '../platform/actor.ts'
import type { Context } from '../platform/context.ts'
import { CaretakerError, sqlState } from '../platform/errors.ts'
import { describeError } from '../platform/log.ts'
import { authenticate, type Caller } from './authenticate.ts'
import { enforceLimit, network, refuseGuessing } from './limit.ts'
import { problemResponse } from './problem.ts'
import { assertStorable, checked, readBytes, readForm, readJson } from './read-body.ts'
import { type FormFields, matchPath, type RequestInput, type Route } from './route.ts'
import { secured } from './security-headers.ts'
import { assertCsrfToken, assertOwnPage } from './session.ts'

/** What a host tells of an invocation, beside the request. */
export interface Invocation {
  /** The caller's address as the host, not the caller, states it. */
  clientAddress: string
  deadline: Date
  waitUntil(work: Promise<unknown>): void
}

/** Makes the context of one request. */
export type OpenContext = (request: { actor: Actor; requestId: string; signal: AbortSignal; deadline: Date }) => Context

/** A request that was answered, refusals and failures too. */
export interface Answered {
  /** One of HTTP's own, or `other`. */
  method: string
  /** The route's pattern, never the URL; `unmatched` where there is none. */
  route: string
  status: number
  durationMs: number
  /** A host's clock or Caretaker itself asked, not anybody who waits. */
  byClock: boolean
}

/** Told of every answer, before it is sent: it must take no time, and may not throw. */
export type Observe = (answered: Answered, invocation: Invocation) => void

const defaultBodyLimit = 1024 * 1024
/** A caller may invent methods without end. */
const methods: ReadonlySet<string> = new Set(['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS'])

/** Answers requests with the first route that matches. Never throws; every failure is a problem document. */
export function serveRoutes(routes: readonly Route[], open: OpenContext, observe: Observe = () => undefined) {
  return async (request: Request, invocation: Invocation): Promise<Response> => {
    const requestId = randomUUID()
    let ctx: Context | undefined
    let found: Found | undefined
    let started = 0
    const answered = (response: Response) => {
      if (ctx === undefined) return
      const method = methods.has(request.method) ? request.method : 'other'
      const durationMs = ctx.clock.monotonicMs() - started
      const route = found?.route
      observe(
        { method, route: route?.path ?? 'unmatched', status: response.status, durationMs, byClock: route?.auth === 'cron' },
        invocation,
      )
    }
    try {
      ctx = open({ actor: { type: 'anonymous' }, requestId, signal: request.signal, deadline: invocation.deadline })
      started = ctx.clock.monotonicMs()
      found = find(routes, request.method === 'HEAD' ? 'GET' : request.method, new URL(request.url).pathname)
      const response = await answer(found, ctx, request, requestId, invocation)
      ctx.log.info(
        { method: request.method, route: found.route.path, status: response.status, ms: Math.round(ctx.clock.monotonicMs() - started) },
        'request',
      )
      answered(response)
      return secured(request.method === 'HEAD' ? new Response(null, response) : response, requestId)
    } catch (thrown) {
      const error = ofReadOnlyDatabase(thrown)
      if (!(error instanceof CaretakerError) || error.code === 'internal') {
        ctx?.log.error({ err: error }, 'request failed')
        ctx?.sentry.capture(error, { requestId })
        if (ctx !== undefined) invocation.waitUntil(ctx.sentry.flush(2_000))
      } else
        ctx?.log.info(
          { method: request.method, code: error.code, cause: error.cause === undefined ? undefined : describeError(error.cause) },
          'request refused',
        )
      const response = await problemOf(found, ctx, error, { request, requestId })
      if (error instanceof MethodNotAllowed) response.headers.set('allow', error.allowed.join(', '))
      answered(response)
      return secured(response, requestId)
    }
  }
}

/** A database that takes no writes is out of reach for what has to write; it is no defect. Supabase makes one so when its disk is nearly full. */
function ofReadOnlyDatabase(error: unknown): unknown {
  if (error instanceof CaretakerError || sqlState(error) !== '25006') return error
  return new CaretakerError(
    'database_unavailable',
    'The database takes no writes right now: it is read-only. Its disk may be full, or it is a copy.',
    { cause: error },
  )
}

/** A page tells of a failure in words of its own; where it cannot, and everywhere else, it is a problem document. */
async function problemOf(
  found: Found | undefined,
  ctx: Context | undefined,
  error: unknown,
  input: { request: Request; requestId: string },
): Promise<Response> {
  const answered = () => problemResponse(error, input.requestId)
  if (found?.route.problem === undefined || ctx === undefined) return answered()
  const { actor, session } = found.caller ?? {}
  const failed = {
    ...input,
    params: found.params,
    caller: actor === undefined || session === undefined ? undefined : { actor, session },
    fields: () => heldFields(found, input.request),
  }
  return found.route.problem(ctx, error, failed).catch(answered)
}

/** A request may fail before its form was read. */
async function heldFields(found: Found, request: Request): Promise<FormFields | null> {
  if (found.fields !== undefined || found.ownPage !== true) return found.fields ?? null
  return readForm(request, found.route.bodyLimitBytes ?? defaultBodyLimit).then(filledIn, () => null)
}

/** What a person has filled in, without what stands in every form. */
function filledIn({ csrf: _token, once: _once, ...fields }: FormFields): FormFields {
  return fields
}

class MethodNotAllowed extends CaretakerError {
  readonly allowed: readonly string[]
  constructor(method: string, allowed: readonly string[]) {
    super('method_not_allowed', `${method} is not answered here; use ${allowed.join(' or ')}.`)
    this.allowed = allowed
  }
}

async function answer(found: Found, ctx: Context, request: Request, requestId: string, invocation: Invocation): Promise<Response> {
  const { route, params } = found
  const isForm = typeof route.body === 'object' && 'form' in route.body
  if (isForm) assertOwnPage(request, ctx.env.PUBLIC_URL)
  found.ownPage = isForm
  found.caller = await authenticate(ctx, route.auth, request).catch((error: unknown) =>
    // Nobody guesses a cookie of 256 bits; who has none is only shown where to sign in.
    isSession(route) ? Promise.reject(error) : refuseGuessing(ctx, error, invocation.clientAddress),
  )
  const { actor, session } = found.caller
  const rateHeaders = await enforceLimit(ctx, route, actor, invocation.clientAddress)
  const query = Object.fromEntries(new URL(request.url).searchParams)
  assertStorable(query, 'query')
  const input: RequestInput<unknown, unknown> = {
    params,
    query: route.query === undefined ? query : checked(route.query, query, 'query'),
    body: await readBody(found, request),
    once: found.once,
    network: network(invocation.clientAddress),
    session,
    request,
    requestId,
    afterwards: (work) =>
      invocation.waitUntil(work.catch((error: unknown) => ctx.log.warn({ err: error }, 'work after the answer failed'))),
  }
  const response = await route.handle({ ...ctx, actor }, input as never)
  for (const [name, value] of Object.entries(rateHeaders)) response.headers.set(name, value)
  return response
}

async function readBody(found: Found, request: Request) {
  const { body, bodyLimitBytes: limit = defaultBodyLimit } = found.route
  if (body === undefined) return undefined
  if (body === 'bytes') return readBytes(request, limit)
  if (!('form' in body)) return readJson(request, body, limit)
  const sent = await readForm(request, limit)
  found.fields = filledIn(sent)
  if (typeof sent.once === 'string' && sent.once !== '') found.once = sent.once
  if (found.caller?.session !== undefined) assertCsrfToken(found.caller.session, sent.csrf)
  return checked(body.form, found.fields, 'body')
}

function isSession({ auth }: Route): boolean {
  return typeof auth === 'object' && 'session' in auth
}

/** The route of a request, and what has become known of the request since. */
interface Found {
  route: Route
  params: Record<string, string>
  caller?: Caller
  /** It is a form that a page of this very site sent. */
  ownPage?: boolean
  fields?: FormFields
  once?: string
}

function find(routes: readonly Route[], method: string, path: string): Found {
  const allowed = new Set<string>()
  for (const route of routes) {
    const params = matchPath(route.path, path)
    if (params === null) continue
    if ((route.methods as readonly string[]).includes(method)) return { route, params }
    for (const one of route.methods) allowed.add(one)
  }
  if (allowed.size > 0) throw new MethodNotAllowed(method, [...allowed])
  throw new CaretakerError('not_found', 'There is nothing at this address.')
}
