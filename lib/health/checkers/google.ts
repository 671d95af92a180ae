import { type Checker, judgeApi, notConfigured } from '../checker.ts'

/** Google's sign-in answers. Whether the client is accepted shows only when somebody signs in. */
export const google: Checker = async (ctx, _check, signal) => {
  if (ctx.env.GOOGLE_CLIENT_ID === undefined) return notConfigured
  return judgeApi(await ctx.fetch('https://accounts.google.com/.well-known/openid-configuration', { redirect: 'manual', signal }))
}
