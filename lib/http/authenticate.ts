import { createHash, timingSafeEqual } from 'node:crypto'
import { type Actor, type Role, roles } from '../platform/actor.ts'
import type { Context } from '../platform/context.ts'
import { requireEnv } from '../platform/env.ts'
import { CaretakerError } from '../platform/errors.ts'
import type { Authentication } from './route.ts'

/**
 * Who calls, or an error: `unauthorized` without valid credentials, `forbidden` when they do not suffice,
 * `not_configured` when the secret to compare with is not set (closed, never open).
 */
export async function authenticate(ctx: Context, auth: Authentication, request: Request): Promise<Actor> {
  if (auth === 'public') return { type: 'anonymous' }
  if (auth === 'signature') return { type: 'provider', source: 'unverified' }
  const token = bearer(request)
  if (auth === 'cron') {
    const secret = requireEnv(ctx.env, 'CRON_SECRET', 'This route')
    if (token === null || !sameSecret(token, secret)) throw new CaretakerError('unauthorized', 'Present CRON_SECRET as a bearer token.')
    return { type: 'system', job: 'cron' }
  }
  if (token === null) throw new CaretakerError('unauthorized', 'Present an operator key or a Supabase access token as a bearer token.')
  const actor = token.startsWith('ck_') ? await operatorByKey(ctx, token) : await actorByToken(ctx, token)
  if (actor.type === 'operator') {
    if (auth.operator.includes(actor.role)) return actor
    throw new CaretakerError('forbidden', `The role "${actor.role}" may not do this; it takes ${auth.operator.join(' or ')}.`)
  }
  if ('subject' in auth) return actor
  throw new CaretakerError('forbidden', `This takes an operator with the role ${auth.operator.join(' or ')}.`)
}

function bearer(request: Request): string | null {
  const match = /^Bearer ([\x21-\x7e]{1,8192})$/i.exec(request.headers.get('authorization') ?? '')
  return match?.[1] ?? null
}

/** Compares digests, so that neither the content nor the length of the secret shows in the time it takes. */
export function sameSecret(presented: string, secret: string): boolean {
  const digest = (text: string) => createHash('sha256').update(text).digest()
  return timingSafeEqual(digest(presented), digest(secret))
}

/** API keys carry 256 random bits, so one fast hash is enough to store and to look up. */
export function keyHash(key: string): Buffer {
  return createHash('sha256').update('caretaker:api-key:v1\0').update(key).digest()
}

async function operatorByKey(ctx: Context, key: string): Promise<Actor> {
  const [found] = await ctx.db.query<{ id: string; role: string }>(
    `update caretaker.api_keys set last_used_at = now()
     where hash = $1::bytea and revoked_at is null and (expires_at is null or expires_at > now()) returning id::text, role`,
    [keyHash(key)],
  )
  if (found === undefined) throw new CaretakerError('unauthorized', 'The operator key is not known, or was revoked.')
  return { type: 'operator', id: found.id, role: knownRole(found.role) }
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

function knownRole(role: string): Role {
  const known = roles.find((one) => one === role)
  if (known === undefined) throw new CaretakerError('forbidden', `The role "${role}" is not one of ${roles.join(', ')}.`)
  return known
}
