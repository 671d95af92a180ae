import type { Context } from '../../platform/context.ts'
import { requireEnv } from '../../platform/env.ts'
import { ask, listIn, requireAsked, textIn } from './ask.ts'
import type { Person, Processor } from './processor.ts'

const host = 'https://api.twilio.com'

/**
 * Messages to and from the telephone numbers that the policy names in `ids`, with their media.
 * https://www.twilio.com/docs/messaging/api/message-resource#delete-a-message-resource
 */
export const twilio: Processor = {
  needs: ['TWILIO_ACCOUNT_SID', 'TWILIO_AUTH_TOKEN'],
  async *export(ctx, person) {
    for await (const record of messages(ctx, person)) yield { kind: 'message', record }
  },
  async erase(ctx, person) {
    const erased = { messages: 0, media: 0 }
    // All are listed first: a page moves when what is on it is deleted.
    const found: { sid: string; media: boolean }[] = []
    for await (const message of messages(ctx, person))
      found.push({ sid: textIn(message, 'sid') ?? '', media: textIn(message, 'num_media') !== '0' })
    for (const { sid, media } of found) {
      if (media) {
        const { body } = await ask(ctx, 'Twilio', `${account(ctx)}/Messages/${sid}/Media.json?PageSize=100`, {
          headers: headers(ctx),
          accept: [404],
        })
        for (const one of listIn(body, 'media_list')) {
          await remove(ctx, `${account(ctx)}/Messages/${sid}/Media/${textIn(one, 'sid') ?? ''}.json`)
          erased.media++
        }
      }
      await remove(ctx, `${account(ctx)}/Messages/${sid}.json`)
      erased.messages++
    }
    return { erased: Object.fromEntries(Object.entries(erased).filter(([, n]) => n > 0)) }
  },
}

async function remove(ctx: Context, url: string): Promise<void> {
  await ask(ctx, 'Twilio', url, { method: 'DELETE', headers: headers(ctx), accept: [404] })
}

function account(ctx: Context): string {
  return `${host}/2010-04-01/Accounts/${encodeURIComponent(requireEnv(ctx.env, 'TWILIO_ACCOUNT_SID', 'Asking Twilio'))}`
}

function headers(ctx: Context): Record<string, string> {
  const credentials = `${requireEnv(ctx.env, 'TWILIO_ACCOUNT_SID', 'Asking Twilio')}:${requireEnv(ctx.env, 'TWILIO_AUTH_TOKEN', 'Asking Twilio')}`
  return { authorization: `Basic ${Buffer.from(credentials).toString('base64')}` }
}

/** "+49 151 123" and "whatsapp:+49151123" are one number. */
function digits(number: string): string {
  return number.replace(/\D/g, '')
}

async function* messages(ctx: Context, person: Person): AsyncGenerator<Record<string, unknown>> {
  for (const number of person.ids.filter((id) => digits(id).length > 4))
    for (const side of ['To', 'From']) {
      let next: string | undefined = `${account(ctx)}/Messages.json?${side}=${encodeURIComponent(number)}&PageSize=200`
      while (next !== undefined) {
        const { body } = await ask(ctx, 'Twilio', next, { headers: headers(ctx) })
        const page = listIn(body, 'messages')
        requireAsked(
          'Twilio',
          page.every((message) => digits(textIn(message, side.toLowerCase()) ?? '') === digits(number)),
        )
        yield* page
        const following = textIn(body, 'next_page_uri')
        requireAsked('Twilio', following === undefined || following.startsWith('/'))
        next = following === undefined ? undefined : `${host}${following}`
      }
    }
}
