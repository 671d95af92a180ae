import type { WebhookSourcePolicy } from '../../config/index.ts'
import { CaretakerError } from '../../platform/errors.ts'
import { namedSecrets } from '../../platform/named-secrets.ts'
import { parseWebhookSecrets, verifyWebhook } from '../../platform/standard-webhooks.ts'
import type { Verified, WebhookSource } from '../source.ts'
import { instant, isObject, isWord, type JsonObject, parseJsonObject } from './json.ts'

/**
 * A sender of Standard Webhooks, by whatever name the policy gives it: Clerk, Memberstack, Svix, Supabase's auth hooks.
 * https://www.standardwebhooks.com
 */
export function standardSource(name: string, policy: WebhookSourcePolicy): WebhookSource {
  return {
    mediaTypes: ['application/json'],
    minimise: () => policy.minimise,
    verify(ctx, request): Verified {
      // Supabase shows its secrets as "v1,whsec_…".
      const secrets = namedSecrets(ctx.env.WEBHOOK_SECRETS, 'WEBHOOK_SECRETS', name).map((secret) => secret.replace(/^v1,/, ''))
      const keys = parseWebhookSecrets(secrets.join(','), `WEBHOOK_SECRETS for "${name}"`)
      const tolerance = policy.toleranceSeconds === undefined ? {} : { toleranceSeconds: policy.toleranceSeconds }
      const { id, timestamp } = verifyWebhook(keys, request, { now: ctx.clock.now(), ...tolerance })
      const body = parseJsonObject(request.body, 'an event')
      return policy.kind === 'supabase' ? supabaseHook(name, id, timestamp, body) : event(name, id, timestamp, body)
    },
  }
}

/** The type is `type` or, as Memberstack has it, `event`; what it is about is `data` or `payload`. */
function event(source: string, eventId: string, sentAt: Date, body: JsonObject): Verified {
  const type = body.type ?? body.event
  if (!isWord(type))
    throw new CaretakerError('bad_request', 'The event has neither "type" nor "event"; expected 1 to 255 printable characters.')
  const { data, payload, ...envelope } = body
  const object = isObject(data) ? data : isObject(payload) ? payload : {}
  const occurredAt = instant(body.timestamp, 'milliseconds')
  return {
    events: [
      {
        source,
        eventId,
        type,
        occurredAt,
        objectId: isWord(object.id) ? object.id : undefined,
        content: { ...envelope, id: eventId, type, created: seconds(occurredAt ?? sentAt), data: { object } },
      },
    ],
  }
}

/**
 * https://supabase.com/docs/guides/auth/auth-hooks. The hooks that send something are taken and answered; those that ask for
 * a decision cannot wait for one here.
 */
function supabaseHook(source: string, eventId: string, sentAt: Date, body: JsonObject): Verified {
  const type = isObject(body.email_data) ? 'send_email' : isObject(body.sms) ? 'send_sms' : undefined
  if (type === undefined)
    throw new CaretakerError(
      'bad_request',
      'The hook is neither "Send Email" nor "Send SMS": one that asks for a decision has to be answered by the app.',
    )
  const user = isObject(body.user) ? body.user : {}
  return {
    events: [
      {
        source,
        eventId,
        type,
        occurredAt: undefined,
        objectId: isWord(user.id) ? user.id : undefined,
        content: { id: eventId, type, created: seconds(sentAt), data: { object: body } },
      },
    ],
    answer: () => ({ mediaType: 'application/json', body: '{}' }),
  }
}

function seconds(date: Date): number {
  return Math.floor(date.getTime() / 1000)
}
