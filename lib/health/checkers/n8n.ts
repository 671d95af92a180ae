import { type Checker, judgeApi, notConfigured } from '../checker.ts'

/**
 * n8n is ready: it has its database and takes traffic. Where: `url` of the policy's entry, else the host of
 * N8N_WEBHOOK_URL. https://docs.n8n.io/hosting/logging-monitoring/monitoring/
 */
export const n8n: Checker = async (ctx, check, signal) => {
  const address = check.url ?? ctx.env.N8N_WEBHOOK_URL
  if (address === undefined) return notConfigured
  return judgeApi(await ctx.fetch(new URL('/healthz/readiness', address), { redirect: 'manual', signal }))
}
