import { envelopeUrl } from '../../platform/check-in.ts'
import { type Checker, judgeApi, notConfigured } from '../checker.ts'

/**
 * Sentry takes what it is sent under the DSN. What is sent is a client report of nothing, which becomes no event.
 * https://develop.sentry.dev/sdk/telemetry/client-reports/
 */
export const sentry: Checker = async (ctx, _check, signal) => {
  if (ctx.env.SENTRY_DSN === undefined) return notConfigured
  const lines = [{}, { type: 'client_report' }, { timestamp: ctx.clock.now().getTime() / 1_000, discarded_events: [] }]
  return judgeApi(
    await ctx.fetch(envelopeUrl(ctx.env.SENTRY_DSN), {
      method: 'POST',
      headers: { 'content-type': 'application/x-sentry-envelope' },
      body: lines.map((line) => JSON.stringify(line)).join('\n'),
      redirect: 'manual',
      signal,
    }),
  )
}
