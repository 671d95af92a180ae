import { type Checker, judgeApi, notConfigured } from '../checker.ts'

/**
 * Make answers in its zone and accepts the token: whose it is. The zone is `url` of the policy's entry, else the one that
 * MAKE_COM_WEBHOOK_URL is in (hook.eu1.make.com). https://developers.make.com/api-documentation/getting-started
 */
export const make: Checker = async (ctx, check, signal) => {
  const { MAKE_API_TOKEN: token, MAKE_COM_WEBHOOK_URL: webhook } = ctx.env
  const host = webhook === undefined ? undefined : URL.parse(webhook)?.hostname
  const zone = check.url ?? (host?.startsWith('hook.') === true ? `https://${host.slice('hook.'.length)}` : undefined)
  if (token === undefined || zone === undefined) return notConfigured
  return judgeApi(
    await ctx.fetch(new URL('/api/v2/users/me', zone), { headers: { authorization: `Token ${token}` }, redirect: 'manual', signal }),
  )
}
