import type { DeliveryEntry, InboxEntry, WebhookFigures } from '../../lib/webhooks/index.ts'
import { type Html, html } from '../html.ts'
import { badge, type Tone, table } from '../parts.ts'
import { relative, spanText } from '../time.ts'
import { helpers, may, postButton, type View } from './shell.ts'

const tones: Record<string, Tone> = { received: 'none', waiting: 'none', applied: 'ok', delivered: 'ok', ignored: 'none', dead: 'bad' }

export interface WebhooksShown {
  figures: WebhookFigures
  deadEvents: readonly InboxEntry[]
  deadDeliveries: readonly DeliveryEntry[]
  newest: readonly InboxEntry[]
  newestDeliveries: readonly DeliveryEntry[]
}

export function webhooksPage(view: View, shown: WebhooksShown): Html {
  const { timezone, now } = view
  const { figures, deadEvents, deadDeliveries, newest, newestDeliveries } = shown
  const dead = figures.sources.reduce((sum, source) => sum + source.dead, 0)
  const undelivered = figures.subscribers.reduce((sum, subscriber) => sum + subscriber.dead, 0)
  const age = (seconds: number | null) => (seconds === null ? '' : spanText(seconds * 1_000))
  return html`<h1>Webhooks</h1>
<h2>Dead letters</h2>
<p class="soft">What could not be applied or delivered after all attempts. A replay makes it due now, with its attempts counted anew.</p>
${dead > 1 && may(view, helpers) && postButton(view, { action: '/ops/webhooks/replay-dead', text: `Replay all ${dead.toLocaleString('en')} events`, look: 'quiet' })}
${events(view, newestOf('Events that could not be applied', deadEvents.length, dead), 'No event is dead.', deadEvents)}
${deadDeliveries.length > 0 && deliveries(view, newestOf('Messages that could not be delivered', deadDeliveries.length, undelivered), '', deadDeliveries)}
<h2>Sources</h2>
${table({
  caption: 'Events that arrive',
  empty: 'No event has arrived yet.',
  rows: figures.sources,
  columns: [
    { name: 'Source', cell: ({ source }) => source },
    { name: 'Waiting', numeric: true, cell: ({ waiting }) => waiting },
    { name: 'Oldest', cell: ({ oldestSeconds }) => age(oldestSeconds) },
    { name: 'Dead', numeric: true, cell: ({ dead }) => dead },
    { name: 'Applied in 24 h', numeric: true, cell: ({ applied }) => applied.toLocaleString('en') },
    {
      name: 'Last arrived',
      cell: ({ lastReceivedAt, silentSince }) =>
        html`${relative(lastReceivedAt, now, timezone)}${silentSince !== null && html` ${badge('warn', 'silent')}`}`,
    },
  ],
})}
${
  figures.subscribers.length > 0 &&
  html`<h2>Subscribers</h2>${table({
    caption: 'Messages that are sent',
    empty: '',
    rows: figures.subscribers,
    columns: [
      { name: 'Subscriber', cell: ({ subscriber }) => subscriber },
      { name: 'Waiting', numeric: true, cell: ({ waiting }) => waiting },
      { name: 'Oldest', cell: ({ oldestSeconds }) => age(oldestSeconds) },
      { name: 'Dead', numeric: true, cell: ({ dead }) => dead },
      { name: 'Delivered in 24 h', numeric: true, cell: ({ delivered }) => delivered.toLocaleString('en') },
      {
        name: 'Circuit',
        cell: ({ openUntil, goneAt }) =>
          goneAt !== null
            ? badge('bad', 'gone')
            : openUntil !== null
              ? html`${badge('warn', 'open')} tried again ${relative(openUntil, now, timezone)}`
              : badge('ok', 'closed'),
      },
    ],
  })}`
}
<h2>Newest events</h2>
${events(view, 'Newest first', 'No event has arrived yet.', newest)}
${newestDeliveries.length > 0 && html`<h2>Newest messages</h2>${deliveries(view, 'Newest first', '', newestDeliveries)}`}`
}

/** Says where the page shows less than there is. */
function newestOf(what: string, shown: number, all: number): string {
  return shown < all ? `${what}: the newest ${shown} of ${all.toLocaleString('en')}` : what
}

function events(view: View, caption: string, empty: string, rows: readonly InboxEntry[]): Html {
  const { now, timezone } = view
  return table({
    caption,
    empty,
    rows,
    columns: [
      { name: 'Event', cell: ({ id, type }) => html`${type} <span class="soft">${id}</span>` },
      { name: 'Source', cell: ({ source }) => source },
      {
        name: 'State',
        cell: ({ state, error }) => html`${badge(tones[state] ?? 'none', state)}${error !== null && html` <code>${error.code}</code>`}`,
      },
      { name: 'Attempts', numeric: true, cell: ({ attempts }) => attempts },
      { name: 'Arrived', cell: ({ receivedAt }) => relative(receivedAt, now, timezone) },
      ...(may(view, helpers)
        ? [
            {
              name: 'Action',
              cell: ({ id, state }: InboxEntry) =>
                state === 'dead' &&
                postButton(view, { action: `/ops/webhooks/events/${id}/replay`, text: 'Replay', about: `event ${id}`, look: 'quiet' }),
            },
          ]
        : []),
    ],
  })
}

function deliveries(view: View, caption: string, empty: string, rows: readonly DeliveryEntry[]): Html {
  const { now, timezone } = view
  return table({
    caption,
    empty,
    rows,
    columns: [
      { name: 'Message', cell: ({ id, type }) => html`${type} <span class="soft">${id}</span>` },
      { name: 'Subscriber', cell: ({ subscriber }) => subscriber },
      {
        name: 'State',
        cell: ({ state, status, error }) =>
          html`${badge(tones[state] ?? 'none', state)}${status !== null && html` ${status}`}${error !== null && html` <code>${error.code}</code>`}`,
      },
      { name: 'Attempts', numeric: true, cell: ({ attempts }) => attempts },
      { name: 'Made', cell: ({ createdAt }) => relative(createdAt, now, timezone) },
      ...(may(view, helpers)
        ? [
            {
              name: 'Action',
              cell: ({ id, state }: DeliveryEntry) =>
                state === 'dead' &&
                postButton(view, {
                  action: `/ops/webhooks/deliveries/${id}/replay`,
                  text: 'Send again',
                  about: `message ${id}`,
                  look: 'quiet',
                }),
            },
          ]
        : []),
    ],
  })
}
