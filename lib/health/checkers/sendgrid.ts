import { type Checker, healthy, judgeStatus, notConfigured, unhealthy } from '../checker.ts'

/** SendGrid answers, and the key may send mail. https://www.twilio.com/docs/sendgrid/api-reference/api-key-permissions */
export const sendgrid: Checker = async (ctx, _check, signal) => {
  const key = ctx.env.SENDGRID_API_KEY
  if (key === undefined) return notConfigured
  const response = await ctx.fetch('https://api.sendgrid.com/v3/scopes', {
    headers: { authorization: `Bearer ${key}` },
    redirect: 'manual',
    signal,
  })
  if (response.status !== 200) return judgeStatus(response)
  const { scopes } = (await response.json()) as { scopes?: unknown }
  return Array.isArray(scopes) && scopes.includes('mail.send') ? healthy() : unhealthy('forbidden', { missing: 'mail.send' })
}
