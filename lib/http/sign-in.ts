import { createHash } from 'node:crypto'
import type { Context } from '../platform/context.ts'
import { requireEnv } from '../platform/env.ts'
import { CaretakerError } from '../platform/errors.ts'
import { operatorByKey, prepared } from './credentials.ts'
import { knownBrowser, rememberBrowser } from './known-browser.ts'
import { openSession, userRole } from './session.ts'

const windowSeconds = 900
/**
 * Attempts at an account in a quarter of an hour: Supabase's own limit counts addresses, and all of ours are one. A browser that has
 * signed in to it before has its own. All others share what the account has, and one network gets a part of that: a stranger neither
 * guesses a password nor uses up everybody's attempts. `visitor`: of one network at all accounts, or a single one could use up what they
 * have together. `others`: of all accounts together, so that strangers leave something of the
 * 1,800 sign-ins an hour that Supabase takes from one address (https://supabase.com/docs/guides/auth/rate-limits) to browsers that are known.
 */
const attempts = { browser: 10, network: 10, visitor: 30, account: 30, others: 300 } as const
const answerLimitMs = 10_000

/**
 * Signs a browser in with an operator key. Returns the `Set-Cookie`.
 * @throws {CaretakerError} `unauthorized`
 */
export async function signInWithKey(ctx: Context, request: Request, key: string): Promise<string> {
  const { id, role } = await operatorByKey(ctx, key.trim())
  return openSession(ctx, request, { keyId: id }, role)
}

/**
 * Signs a browser in as a Supabase user whose `app_metadata.caretaker_role` is a role. Where the account has a second
 * factor its code is asked for. Supabase's own session ends at once: only the answer was needed. `network` is where the request comes
 * from. Returns each `Set-Cookie`, the session's first and the browser's after it.
 * @throws {CaretakerError} `unauthorized` for a wrong password or code; `forbidden` for an account without a role; `rate_limited`;
 *   `not_configured` without Supabase; `upstream_failed` when it does not answer
 */
export async function signInWithPassword(
  ctx: Context,
  request: Request,
  account: { email: string; password: string; code?: string | undefined; network: string },
): Promise<[session: string, ...browser: string[]]> {
  const email = account.email.trim().toLowerCase()
  const browser = await knownBrowser(ctx, request, email)
  await countAttempt(ctx, { email, browser, network: account.network })
  const opened = await supabaseAuth<{ access_token: string; user: { id: string; factors?: Factor[] | null } }>(
    ctx,
    'token?grant_type=password',
    { email, password: account.password },
  )
  const bearer = opened.access_token
  try {
    await passSecondFactor(ctx, bearer, opened.user.factors ?? [], account.code?.replaceAll(/\s/g, ''))
    const role = await userRole(ctx, opened.user.id)
    if (role === null)
      throw new CaretakerError(
        'forbidden',
        'This account is not an operator: its app_metadata holds no caretaker_role. An admin can set it.',
      )
    const session = await openSession(ctx, request, { userId: opened.user.id }, role)
    const remembered = await rememberBrowser(ctx, request, email, browser)
    return remembered === null ? [session] : [session, remembered]
  } finally {
    await supabaseAuth(ctx, 'logout?scope=local', {}, bearer).catch((error: unknown) =>
      ctx.log.warn({ err: error }, "Supabase's own session of a sign-in was not ended"),
    )
  }
}

/** @throws {CaretakerError} `rate_limited` */
async function countAttempt(ctx: Context, of: { email: string; browser: string | null; network: string }): Promise<void> {
  const digest = (text: string) => createHash('sha256').update(text).digest('base64url')
  const account = digest(of.email)
  const hit = async (key: string, limit: number) => {
    const { allowed, resetSeconds } = await prepared(ctx.limiter.hit(key, limit, windowSeconds))
    if (!allowed)
      throw new CaretakerError(
        'rate_limited',
        'Too many attempts. Please wait before trying again, use a browser in which the account has signed in before, or sign in with an operator key.',
        { retryAfterSeconds: Math.max(1, resetSeconds) },
      )
  }
  if (of.browser !== null) return hit(`sign-in|${account}|browser:${digest(of.browser)}`, attempts.browser)
  // In this order: what a network may not try is not counted against the account.
  await hit(`sign-in|${account}|network:${of.network}`, attempts.network)
  await hit(`sign-in|network:${of.network}`, attempts.visitor)
  await hit(`sign-in|${account}`, attempts.account)
  await hit('sign-in|others', attempts.others)
}

interface Factor {
  id: string
  factor_type: string
  status: string
}

/** https://supabase.com/docs/guides/auth/auth-mfa/totp */
async function passSecondFactor(ctx: Context, bearer: string, factors: readonly Factor[], code: string | undefined): Promise<void> {
  const verified = factors.filter(({ status }) => status === 'verified')
  if (verified.length === 0) return
  const totp = verified.find(({ factor_type: type }) => type === 'totp')
  if (totp === undefined)
    throw new CaretakerError('forbidden', 'The second factor of this account is not an authenticator app; sign in with a key.')
  if (code === undefined || code === '')
    throw new CaretakerError('unauthorized', 'This account has a second factor: enter the code of its authenticator app, too.')
  const { id: challenge } = await supabaseAuth<{ id: string }>(ctx, `factors/${encodeURIComponent(totp.id)}/challenge`, {}, bearer)
  await supabaseAuth(ctx, `factors/${encodeURIComponent(totp.id)}/verify`, { challenge_id: challenge, code }, bearer)
}

/** One call of Supabase Auth's own API: supabase-js would keep the session in the client that all requests share. */
async function supabaseAuth<T>(ctx: Context, path: string, body: object, bearer?: string): Promise<T> {
  const url = requireEnv(ctx.env, 'SUPABASE_URL', 'Signing in with an account')
  const key = ctx.env.SUPABASE_ANON_KEY ?? requireEnv(ctx.env, 'SUPABASE_SERVICE_ROLE_KEY', 'Signing in with an account')
  const unanswered = (cause: unknown) =>
    new CaretakerError('upstream_failed', 'Supabase Auth does not answer right now; try again shortly, or sign in with a key.', {
      cause,
      retryAfterSeconds: 10,
    })
  const response = await ctx
    .fetch(new URL(`/auth/v1/${path}`, url), {
      method: 'POST',
      headers: { apikey: key, 'content-type': 'application/json', ...(bearer === undefined ? {} : { authorization: `Bearer ${bearer}` }) },
      body: JSON.stringify(body),
      signal: AbortSignal.any([ctx.signal, AbortSignal.timeout(answerLimitMs)]),
    })
    .catch((cause: unknown) => {
      throw unanswered(cause)
    })
  const answer = (await response.json().catch(() => ({}))) as { error_code?: unknown }
  if (response.ok) return answer as T
  const code =
    typeof answer.error_code === 'string' && /^[a-z_]{1,60}$/.test(answer.error_code) ? answer.error_code : String(response.status)
  if (response.status === 429)
    throw new CaretakerError('rate_limited', 'Supabase Auth asks for patience: too many attempts. Please wait before trying again.', {
      retryAfterSeconds: 60,
    })
  if (response.status >= 500) throw unanswered(new Error(`status ${response.status}`))
  // Auth tells of a ban before it looks at the password: whoever guesses addresses would learn which ones there are.
  if (code === 'invalid_credentials' || code === 'user_banned' || code === '400')
    throw new CaretakerError('unauthorized', 'The e-mail address or the password is not right.')
  if (code === 'mfa_verification_failed') throw new CaretakerError('unauthorized', 'The code of the authenticator app is not right.')
  throw new CaretakerError('unauthorized', `Supabase Auth refuses the sign-in (${code}).`)
}
