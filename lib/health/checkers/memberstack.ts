import { type Checker, judgeApi, notConfigured } from '../checker.ts'

/** Memberstack answers and accepts the key; a page of one member, which is not read. https://developers.memberstack.com/admin-rest-api */
export const memberstack: Checker = async (ctx, _check, signal) => {
  const key = ctx.env.MEMBERSTACK_SECRET_KEY
  if (key === undefined) return notConfigured
  return judgeApi(
    await ctx.fetch('https://admin.memberstack.com/members?limit=1', { headers: { 'x-api-key': key }, redirect: 'manual', signal }),
  )
}
