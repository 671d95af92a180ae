import { type Channel, clipped, type Message, oneLine, postJson } from './channel.ts'
import { lines, title } from './text.ts'

// https://developer.pagerduty.com/docs/events-api-v2/trigger-events/: summary 1,024 characters, dedup_key 255, the
// whole event 512 KB.
const longestDetail = 10_000
const addresses = { us: 'https://events.pagerduty.com/v2/enqueue', eu: 'https://events.eu.pagerduty.com/v2/enqueue' }

export function pagerDutyChannel(name: string, settings: { routingKey: string; region: 'us' | 'eu' }): Channel {
  return {
    name,
    kind: 'pagerduty',
    paceMs: 150,
    send: (ctx, message) => {
      const action = actionOf(message.kind)
      // What somebody wrote for others to read is no news to a pager.
      if (action === null) return Promise.resolve({ state: 'delivered', status: null })
      return postJson(ctx, addresses[settings.region], {
        routing_key: settings.routingKey,
        event_action: action,
        dedup_key: message.dedupKey,
        ...(action === 'trigger' ? { payload: payloadOf(message), client: 'Caretaker', links: linksOf(message) } : {}),
        ...(action === 'trigger' && message.link !== null ? { client_url: message.link } : {}),
      })
    },
  }
}

function actionOf(kind: Message['kind']): 'trigger' | 'acknowledge' | 'resolve' | null {
  if (kind === 'acknowledged') return 'acknowledge'
  if (kind === 'resolved' || kind === 'watching') return 'resolve'
  return kind === 'update' ? null : 'trigger'
}

function payloadOf(message: Message) {
  const { payload, severity, app, environment } = message
  return {
    summary: clipped(oneLine(title(message)), 1_024),
    source: app,
    severity: levelOf(message),
    timestamp: payload.since,
    component: payload.component,
    group: environment,
    ...(payload.cause === undefined ? {} : { class: payload.cause }),
    custom_details: Object.fromEntries([
      ['Severity', severity],
      ...lines(message).map(({ name, value }) => [name, clipped(value, longestDetail)]),
    ]),
  }
}

function levelOf({ rank, of }: Message): 'critical' | 'error' | 'warning' | 'info' {
  if (rank <= 0) return 'critical'
  if (rank === 1) return 'error'
  return rank < of - 1 || of <= 3 ? 'warning' : 'info'
}

function linksOf({ payload, link }: Message) {
  return [
    ...(payload.runbook === undefined ? [] : [{ href: payload.runbook, text: 'Runbook' }]),
    ...(link === null ? [] : [{ href: link, text: 'Incident' }]),
  ]
}
