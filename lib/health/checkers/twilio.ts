import { type Checker, healthy, judgeStatus, notConfigured, unhealthy } from '../checker.ts'

/** Twilio answers, accepts the token, and the account is active. https://www.twilio.com/docs/iam/api/account */
export const twilio: Checker = async (ctx, _check, signal) => {
  const { TWILIO_ACCOUNT_SID: sid, TWILIO_AUTH_TOKEN: token } = ctx.env
  if (sid === undefined || token === undefined) return notConfigured
  const response = await ctx.fetch(`https://api.twilio.com/2010-04-01/Accounts/${encodeURIComponent(sid)}.json`, {
    headers: { authorization: `Basic ${Buffer.from(`${sid}:${token}`).toString('base64')}` },
    redirect: 'manual',
    signal,
  })
  if (response.status !== 200) return judgeStatus(response)
  const { status } = (await response.json()) as { status?: unknown }
  // Suspended for want of payment: every call is answered, no message is sent.
  return status === 'active' ? healthy({ account: status }) : unhealthy('forbidden', { account: String(status).slice(0, 20) })
}
