import { type Checker, judgeApi, notConfigured } from '../checker.ts'

/** Hume AI answers and accepts the key; a page of one voice. https://dev.hume.ai/reference/text-to-speech-tts/voices/list */
export const hume: Checker = async (ctx, _check, signal) => {
  const key = ctx.env.HUME_API_KEY
  if (key === undefined) return notConfigured
  return judgeApi(
    await ctx.fetch('https://api.hume.ai/v0/tts/voices?provider=HUME_AI&page_size=1', {
      headers: { 'x-hume-api-key': key },
      redirect: 'manual',
      signal,
    }),
  )
}
