import type { Actor } from '../platform/actor.ts'
import type { Context } from '../platform/context.ts'
import { requireEnv } from '../platform/env.ts'
import { CaretakerError } from '../platform/errors.ts'
import { knownRole, operatorByKey, sameSecret } from './credentials.ts'
import type { Authentication } from './route.ts'
import { findSession, type Session } from './session.ts'

/** Who calls and, where a browser is signed in, its session. */
export interface Caller {
  actor: Actor
  session?: Session
}

/**
 * Who calls, or an error: `unauthorized` without valid credentials, `forbidden` when they do not suffice,
 * `not_configured` when the secret to compare with is not set (closed, never open).
 */
export async function authenticate(ctx: Context, auth: Authentication, request: Request): Promise<Caller> {
  if (auth === 'public') return { actor: { type: 'anonymous' } }
  if (auth === 'signature') return { actor: { type: 'provider', source: 'unverified' } }
  if (typeof auth === 'object' && 'session' in auth) {
    const found = await findSession(ctx, request)
    if (auth.session.includes(found.actor.role)) return found
    throw new CaretakerError('forbidden', `The role "${found.actor.role}" may not do this; it takes ${auth.session.join(' or ')}.`)
  }
  const token = bearer(request)
  if (auth === 'cron') {
    const secret = requireEnv(ctx.env, 'CRON_SECRET', 'This route')
    if (token === null || !sameSecret(token, secret)) throw new CaretakerError('unauthorized', 'Present CRON_SECRET as a bearer token.')
    return { actor: { type: 'system', job: 'cron' } }
  }
  if (token === null) throw new CaretakerError('unauthorized', 'Present an operator key or a Supabase access token as a bearer token.')
  if ('key' in auth && auth.key !== undefined) {
    const secret = ctx.env[auth.key]
    if (secret !== undefined && sameSecret(token, secret)) return { actor: { type: 'provider', source: 'metrics' } }
  }
  const actor = token.startsWith('ck_') ? await operatorByKey(ctx, token) : await actorByToken(ctx, token)
  if (actor.type === 'operator') {
    if (auth.operator.includes(actor.role)) return { actor }
    throw new CaretakerError('forbidden', `The role "${actor.role}" may not do this; it takes ${auth.operator.join(' or ')}.`)
  }
  if ('subject' in auth) return { actor }
  throw new CaretakerError('forbidden', `This takes an operator with the role ${auth.operator.join(' or ')}.`)
}

function bearer(request: Request): string | null {
  const match = /^Bearer ([\x21-\x7e]{1,8192})$/i.exec(request.headers.get('authorization') ?? '')
  return match?.[1] ?? null
}

/** A Supabase access token, verified against the project's keys. An operator's role comes from `app_metadata`, which only the service key can write. */
async function actorByToken(ctx: Context, token: string): Promise<Actor> {
  const supabase = await ctx.supabase()
  const { data, error } = await supabase.auth.getClaims(token).catch((cause: unknown) => ({ data: null, error: cause }))
  // Not knowing is not refusing: a caller who is told 401 throws a good token away.
  if (unanswered(error))
    throw new CaretakerError('upstream_failed', 'The access token cannot be checked right now; try again shortly.', {
      cause: error,
      retryAfterSeconds: 10,
    })
  if (error !== null || data === null)
    throw new CaretakerError('unauthorized', 'The access token is not valid, or has expired.', { cause: error })
  const { sub, app_metadata: metadata } = data.claims
  if (typeof sub !== 'string' || sub === '') throw new CaretakerError('unauthorized', 'The access token names nobody.')
  const role = (metadata as Record<string, unknown> | undefined)?.caretaker_role
  if (typeof role === 'string' && role !== '') return { type: 'operator', id: sub, role: knownRole(role) }
  const { amr, session_id: session } = data.claims as { amr?: unknown; session_id?: unknown }
  const signedIn = lastSignIn(amr)
  return {
    type: 'subject',
    id: sub,
    ...(signedIn === undefined ? {} : { authenticatedAt: signedIn }),
    ...(typeof session === 'string' ? { session } : {}),
  }
}

/** The newest of the token's authentication methods: refreshing a token does not move it. https://supabase.com/docs/guides/auth/jwt-fields */
function lastSignIn(methods: unknown): number | undefined {
  const times = (Array.isArray(methods) ? methods : [])
    .map((method: unknown) => (method as { timestamp?: unknown } | null)?.timestamp)
    .filter((time): time is number => typeof time === 'number' && Number.isFinite(time))
  return times.length === 0 ? undefined : Math.max(...times)
}

/** Supabase Auth was not reached, was overloaded or broke, as its client reports it. */
function unanswered(error: unknown): boolean {
  if (!(error instanceof Error)) return false
  const status = (error as Error & { status?: unknown }).status
  return error.name === 'AuthRetryableFetchError' || (typeof status === 'number' && (status >= 500 || status === 429))
}
