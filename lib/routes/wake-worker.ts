import type { Context } from '../platform/context.ts'

export type Wake = (ctx: Context) => Promise<void>

/** How long to wait for the worker to have heard: it may well work for minutes before it answers, ms. */
const heardAfterMs = 2_000

/**
 * Asks the worker to come. Nothing depends on it: the run is in the ledger, and the next tick asks again.
 * The address is configured, never taken from the request: the call carries CRON_SECRET.
 */
export async function wakeWorker(ctx: Context): Promise<void> {
  const origin = ctx.env.PUBLIC_URL ?? vercelOrigin(ctx.env.VERCEL_PROJECT_PRODUCTION_URL ?? ctx.env.VERCEL_URL)
  if (origin === undefined || ctx.env.CRON_SECRET === undefined) {
    ctx.log.warn('the worker was not woken: PUBLIC_URL or CRON_SECRET is not set')
    return
  }
  try {
    const response = await ctx.fetch(new URL('/api/worker', origin), {
      method: 'POST',
      headers: { authorization: `Bearer ${ctx.env.CRON_SECRET}` },
      redirect: 'error',
      signal: AbortSignal.timeout(heardAfterMs),
    })
    await response.body?.cancel()
    if (!response.ok) ctx.log.warn({ status: response.status }, 'the worker refused to wake')
  } catch (error) {
    if (error instanceof Error && error.name === 'TimeoutError') return
    ctx.log.warn({ err: error }, 'the worker was not woken')
  }
}

function vercelOrigin(host: string | undefined): string | undefined {
  if (host === undefined) return undefined
  return host.startsWith('http') ? host : `https://${host}`
}
