import type { Context } from '../../platform/context.ts'
import { requireEnv } from '../../platform/env.ts'
import { CaretakerError } from '../../platform/errors.ts'
import { guardedRequest } from '../../platform/guarded-request.ts'

export interface Media {
  contentType: string
  body: Buffer
}

/** What carriers take at most. https://www.twilio.com/docs/messaging/guides/accepted-mime-types */
const largestBytes = 5 * 1024 * 1024
const answerLimitMs = 20_000
const mostRedirects = 3
const api = /^api(\.[a-z0-9-]+){0,2}\.twilio\.com$/
const storage = /^([a-z0-9-]+\.)*(twilio\.com|twiliocdn\.com)$/

/**
 * Fetches what came with a message, from Twilio and nowhere else: the account's credentials go to its API alone, and what
 * that leads to has to be storage of Twilio's. For a job's function, not for a handler: nobody is asked anything inside a transaction.
 * @throws {CaretakerError} `address_refused` for a link that is not Twilio's, `payload_too_large`, `not_configured`, `upstream_failed`, `timeout`
 */
export async function fetchTwilioMedia(
  ctx: Pick<Context, 'env' | 'signal'>,
  url: string,
  request: typeof guardedRequest = guardedRequest,
): Promise<Media> {
  const sid = requireEnv(ctx.env, 'TWILIO_ACCOUNT_SID', "Fetching Twilio's media")
  const token = requireEnv(ctx.env, 'TWILIO_AUTH_TOKEN', "Fetching Twilio's media")
  if (!isApiLink(url)) throw refused()
  let next = url
  for (let hop = 0; hop <= mostRedirects; hop++) {
    const answer = await request({
      url: next,
      method: 'GET',
      headers: isApiLink(next) ? { authorization: `Basic ${Buffer.from(`${sid}:${token}`).toString('base64')}` } : {},
      timeoutMs: answerLimitMs,
      signal: ctx.signal,
      answerLimitBytes: largestBytes + 1,
    })
    const { location } = answer.headers
    if (answer.status >= 300 && answer.status < 400 && location !== undefined) {
      next = new URL(location, next).href
      const { protocol, hostname } = new URL(next)
      if (protocol !== 'https:' || !storage.test(hostname)) throw refused()
      continue
    }
    if (answer.status !== 200) throw new CaretakerError('upstream_failed', `Twilio answered ${answer.status} for a message's media.`)
    if (answer.body.length > largestBytes)
      throw new CaretakerError('payload_too_large', `A message's media is larger than ${largestBytes} bytes.`)
    return { contentType: answer.headers['content-type'] ?? 'application/octet-stream', body: answer.body }
  }
  throw new CaretakerError('upstream_failed', "Twilio led on and on for a message's media.")
}

/** https://www.twilio.com/docs/messaging/api/media-resource */
function isApiLink(url: string): boolean {
  if (!URL.canParse(url)) return false
  const { protocol, hostname, port, username, pathname } = new URL(url)
  return (
    protocol === 'https:' &&
    port === '' &&
    username === '' &&
    api.test(hostname) &&
    /^\/2010-04-01\/Accounts\/AC\w{1,64}\/Messages\/\w{1,64}\/Media\/\w{1,64}$/.test(pathname)
  )
}

function refused(): CaretakerError {
  return new CaretakerError('address_refused', "The link to a message's media is not Twilio's.")
}
