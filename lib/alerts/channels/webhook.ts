import { signWebhook, type WebhookKey } from '../../platform/standard-webhooks.ts'
import { type Channel, postGuarded } from './channel.ts'

/** Any address that takes Standard Webhooks: `{ type: "incident.opened", timestamp, data }`, signed. */
export function webhookChannel(name: string, settings: { url: string; keys: readonly WebhookKey[]; allowPrivate: boolean }): Channel {
  return {
    name,
    kind: 'webhook',
    paceMs: 0,
    send: (ctx, message) => {
      const { kind, payload, severity, dedupKey, link, app, environment, at } = message
      const body = JSON.stringify({
        type: kind === 'watching' ? 'caretaker.watching' : `incident.${kind}`,
        timestamp: at.toISOString(),
        data: { incident: kind === 'watching' ? null : dedupKey, app, environment, severity, link, ...payload },
      })
      const headers = signWebhook(settings.keys, { id: `ntf_${message.id}`, timestamp: ctx.clock.now(), body })
      return postGuarded(ctx, { url: settings.url, body, headers: { ...headers }, allowPrivate: settings.allowPrivate })
    },
  }
}
