import { createHash, createHmac, timingSafeEqual } from 'node:crypto'
import type { WebhookSourcePolicy } from '../../config/index.ts'
import { CaretakerError } from '../../platform/errors.ts'
import { namedSecrets } from '../../platform/named-secrets.ts'
import type { WebhookSource } from '../source.ts'
import { instant, isObject, parseJsonObject } from './json.ts'

const shortestSecret = 8

/** https://docs.github.com/en/webhooks/using-webhooks/validating-webhook-deliveries: HMAC-SHA256 over the body, in hex. */
export function githubSource(name: string, policy: WebhookSourcePolicy): WebhookSource {
  return {
    mediaTypes: ['application/json'],
    minimise: () => policy.minimise,
    verify(ctx, request) {
      const secrets = namedSecrets(ctx.env.WEBHOOK_SECRETS, 'WEBHOOK_SECRETS', name)
      if (secrets.length === 0) throw new CaretakerError('not_configured', `WEBHOOK_SECRETS has no secret for "${name}".`)
      if (secrets.some((secret) => secret.length < shortestSecret))
        throw new CaretakerError('not_configured', `A secret for "${name}" in WEBHOOK_SECRETS has fewer than ${shortestSecret} characters.`)
      const header = request.headers.get('x-hub-signature-256')
      if (header === null || header === '') throw invalid('the X-Hub-Signature-256 header is missing')
      const hex = /^sha256=([0-9a-f]{64})$/.exec(header)?.[1]
      if (hex === undefined) throw invalid('the X-Hub-Signature-256 header is malformed or was sent twice')
      const signature = Buffer.from(hex, 'hex')
      let matched = false
      for (const secret of secrets)
        matched = timingSafeEqual(createHmac('sha256', secret).update(request.body).digest(), signature) || matched
      if (!matched) throw invalid('it does not match the body')

      const body = parseJsonObject(request.body, "an event of GitHub's")
      const kind = request.headers.get('x-github-event') ?? ''
      if (!/^[a-z_]{1,60}$/.test(kind))
        throw new CaretakerError('bad_request', 'The X-GitHub-Event header is missing, malformed or was sent twice.')
      const action = typeof body.action === 'string' && /^[a-z_]{1,60}$/.test(body.action) ? `.${body.action}` : ''
      const object = body[kind]
      const about = isObject(object) ? object : isObject(body.repository) ? body.repository : undefined
      const occurredAt = isObject(object) ? instant(object.updated_at) : undefined
      // The delivery's own id is a header that nobody signed: with another one, what was sent once could be sent again.
      const eventId = `sha256:${createHash('sha256').update(request.body).digest('hex')}`
      const type = `${kind}${action}`
      return {
        events: [
          {
            source: name,
            eventId,
            type,
            occurredAt,
            objectId: about?.id === undefined ? undefined : `${isObject(object) ? kind : 'repository'} ${String(about.id)}`,
            content: {
              id: eventId,
              type,
              created: Math.floor((occurredAt ?? ctx.clock.now()).getTime() / 1000),
              delivery: request.headers.get('x-github-delivery')?.slice(0, 100) ?? null,
              data: { object: body },
            },
          },
        ],
      }
    },
  }
}

function invalid(why: string): CaretakerError {
  return new CaretakerError('signature_invalid', `The GitHub signature is not accepted: ${why}.`)
}
