import type { Context } from '../../platform/context.ts'
import { causeOf } from '../causes.ts'
import { type Checker, type Finding, judgeApi, notConfigured } from '../checker.ts'

// Plain fetch: the supabase-js client costs 49 ms of a cold start and adds nothing to a few calls.

/** Auth (GoTrue) answers. */
export const supabaseAuth: Checker = (ctx, _check, signal) => ask(ctx, '/auth/v1/health', signal)

/** Storage answers and lists buckets, which takes its database too. */
export const supabaseStorage: Checker = (ctx, _check, signal) => ask(ctx, '/storage/v1/bucket', signal)

/** The REST API (PostgREST) answers with its schema. */
export const supabaseRest: Checker = (ctx, _check, signal) => ask(ctx, '/rest/v1/', signal)

/**
 * Realtime takes a message: one of no content, on a topic that nobody listens to.
 * https://supabase.com/docs/guides/realtime/broadcast
 */
export const supabaseRealtime: Checker = (ctx, _check, signal) =>
  ask(ctx, '/realtime/v1/api/broadcast', signal, {
    messages: [{ topic: 'caretaker-health', event: 'health', payload: {}, private: false }],
  })

/** Auth, storage and REST at once: the first that fails gives the cause. */
export const supabase: Checker = async (ctx, check, signal) => {
  const parts = { auth: supabaseAuth, storage: supabaseStorage, rest: supabaseRest }
  const findings = await Promise.all(
    Object.entries(parts).map(async ([name, part]): Promise<[string, Finding]> => {
      try {
        return [name, await part(ctx, check, signal)]
      } catch (error) {
        return [name, { status: 'unhealthy', cause: causeOf(error) }]
      }
    }),
  )
  const measures = Object.fromEntries(findings.map(([name, finding]) => [name, finding.cause ?? finding.status]))
  const failed = findings.find(([, finding]) => finding.status !== 'healthy')?.[1]
  return { ...(failed ?? { status: 'healthy' }), measures }
}

async function ask(ctx: Context, path: string, signal: AbortSignal, body?: object): Promise<Finding> {
  const { SUPABASE_URL: url, SUPABASE_SERVICE_ROLE_KEY: key } = ctx.env
  if (url === undefined || key === undefined) return notConfigured
  const response = await ctx.fetch(`${url.replace(/\/+$/, '')}${path}`, {
    headers: { apikey: key, authorization: `Bearer ${key}`, ...(body === undefined ? {} : { 'content-type': 'application/json' }) },
    ...(body === undefined ? {} : { method: 'POST', body: JSON.stringify(body) }),
    // The key must not follow a redirect to wherever.
    redirect: 'manual',
    signal,
  })
  return judgeApi(response)
}
