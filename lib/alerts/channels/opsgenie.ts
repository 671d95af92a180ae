import type { Context } from '../../platform/context.ts'
import { type Channel, clipped, type Message, type Outcome, oneLine, postGuarded, postJson } from './channel.ts'
import { lines, plainText, title } from './text.ts'

// https://docs.opsgenie.com/docs/alert-api: message 130 characters, alias 512, description 15,000, note 25,000, entity 512,
// 20 tags of 50, details 8,000 together; an answer of 202.
/** There are at most a dozen lines. */
const longestDetail = 600
const providers = ['https://api.opsgenie.com', 'https://api.eu.opsgenie.com']

/** Opsgenie, or whatever speaks its alert API at another address. */
export function opsgenieChannel(name: string, settings: { key: string; url: string | undefined; allowPrivate: boolean }): Channel {
  const base = (settings.url ?? (providers[0] as string)).replace(/\/+$/, '')
  const post = (ctx: Context, path: string, body: unknown): Promise<Outcome> => {
    const headers = { authorization: `GenieKey ${settings.key}` }
    if (providers.includes(base)) return postJson(ctx, `${base}${path}`, body, headers)
    return postGuarded(ctx, { url: `${base}${path}`, body: JSON.stringify(body), headers, allowPrivate: settings.allowPrivate })
  }
  return {
    name,
    kind: 'opsgenie',
    paceMs: 150,
    send: (ctx, message) => {
      const alert = `/v2/alerts/${encodeURIComponent(message.dedupKey)}`
      const note = { source: 'Caretaker', note: clipped(plainText(message), 25_000) }
      switch (message.kind) {
        case 'opened':
        case 'reopened':
          return post(ctx, '/v2/alerts', alertOf(message))
        case 'acknowledged':
          return post(ctx, `${alert}/acknowledge?identifierType=alias`, note)
        case 'resolved':
        case 'watching':
          return post(ctx, `${alert}/close?identifierType=alias`, note)
        case 'raised':
        case 'escalation':
        case 'reminder':
          // The same alias: it counts up where it is still open, and opens anew where somebody has closed it.
          return post(ctx, '/v2/alerts', alertOf(message))
        default:
          return post(ctx, `${alert}/notes?identifierType=alias`, note)
      }
    },
  }
}

function alertOf(message: Message) {
  const { payload, severity, environment, app } = message
  return {
    message: clipped(oneLine(title(message)), 130),
    alias: message.dedupKey,
    description: clipped(plainText(message), 15_000),
    priority: `P${Math.min(message.rank, 4) + 1}`,
    entity: clipped(payload.component, 512),
    source: 'Caretaker',
    tags: [clipped(app, 50), clipped(environment, 50), clipped(severity, 50)],
    details: Object.fromEntries(lines(message).map(({ name, value }) => [name, clipped(value, longestDetail)])),
  }
}
