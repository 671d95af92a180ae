import { type Checker, judgeApi, notConfigured } from '../checker.ts'

/** OpenAI answers and accepts the key; listing models costs nothing. https://platform.openai.com/docs/api-reference/models/list */
export const openai: Checker = async (ctx, _check, signal) => {
  const key = ctx.env.OPENAI_API_KEY
  if (key === undefined) return notConfigured
  return judgeApi(
    await ctx.fetch('https://api.openai.com/v1/models', { headers: { authorization: `Bearer ${key}` }, redirect: 'manual', signal }),
  )
}
