import type { DeliveryEntry, InboxEntry, WebhookFigures } from '../../lib/webhooks/index.ts'
import { type Html, html } from '../html.ts'
import { badge, type Column, newestOf, type Tone, table } from '../parts.ts'
import { relative, spanText } from '../time.ts'
import { actionColumn, askButton, helpers, may, postButton, type View } from './shell.ts'

const tones: Record<string, Tone> = { received: 'none', waiting: 'none', applied: 'ok', delivered: 'ok', ignored: 'none', dead: 'bad' }

/** How many of the newest, dead or not. */
export const letterRows = 20

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
  return html`<h1>Webhooks</h1>
<h2>Dead letters</h2>
<p class="soft">What could not be applied or delivered after all attempts. A replay makes it due now, with its attempts counted anew.</p>
${dead > 1 && may(view, helpers) && html`<p>${askButton({ href: '/ops/webhooks/replay-dead', text: `Replay all ${dead.toLocaleString('en')} events…` })}</p>`}
${events(view, newestOf('Events that could not be applied', deadEvents.length, dead), 'No event is dead.', deadEvents)}
${deadDeliveries.length > 0 && deliveries(view, newestOf('Messages that could not be delivered', deadDeliveries.length, undelivered), deadDeliveries)}
<h2>Sources</h2>
${streams({
  caption: 'Events that arrive',
  empty: 'No event has arrived yet.',
  rows: figures.sources,
  first: { name: 'Source', cell: ({ source }) => source },
  done: { name: 'Applied in 24 h', of: ({ applied }) => applied },
  last: {
    name: 'Last arrived',
    cell: ({ lastReceivedAt, silentSince }) =>
      html`${relative(lastReceivedAt, now, timezone)}${silentSince !== null && html` ${badge('warn', 'silent')}`}`,
  },
})}
${
  figures.subscribers.length > 0 &&
  html`<h2>Subscribers</h2>${streams({
    caption: 'Messages that are sent',
    empty: '',
    rows: figures.subscribers,
    first: { name: 'Subscriber', cell: ({ subscriber }) => subscriber },
    done: { name: 'Delivered in 24 h', of: ({ delivered }) => delivered },
    last: {
      name: 'Circuit',
      cell: ({ openUntil, goneAt }) =>
        goneAt !== null
          ? badge('bad', 'gone')
          : openUntil !== null
            ? html`${badge('warn', 'open')} tried again ${relative(openUntil, now, timezone)}`
            : badge('ok', 'closed'),
    },
  })}`
}
<h2>Newest events</h2>
${events(view, newest.length < letterRows ? 'Newest first' : newestOf('Newest first', letterRows), 'No event has arrived yet.', newest)}
${newestDeliveries.length > 0 && html`<h2>Newest messages</h2>${deliveries(view, newestDeliveries.length < letterRows ? 'Newest first' : newestOf('Newest first', letterRows), newestDeliveries)}`}`
}

/** What waits, is dead and was done, of everything that comes from somewhere or goes somewhere. */
function streams<Row extends { waiting: number; dead: number; oldestSeconds: number | null }>(given: {
  caption: string
  empty: string
  rows: readonly Row[]
  first: Column<Row>
  done: { name: string; of(row: Row): number }
  last: Column<Row>
}): Html {
  const { caption, empty, rows, first, done, last } = given
  const figure = (count: number) => count.toLocaleString('en')
  return table<Row>({
    caption,
    empty,
    rows,
    columns: [
      first,
      { name: 'Waiting', numeric: true, cell: ({ waiting }) => figure(waiting) },
      { name: 'Oldest', cell: ({ oldestSeconds }) => (oldestSeconds === null ? '' : spanText(oldestSeconds * 1_000)) },
      { name: 'Dead', numeric: true, cell: ({ dead }) => figure(dead) },
      { name: done.name, numeric: true, cell: (row) => figure(done.of(row)) },
      last,
    ],
  })
}

function events(view: View, caption: string, empty: string, rows: readonly InboxEntry[]): Html {
  return letters(view, {
    caption,
    empty,
    rows,
    first: 'Event',
    other: { name: 'Source', cell: ({ source }) => source },
    since: { name: 'Arrived', of: ({ receivedAt }) => receivedAt },
    again: { text: 'Replay', what: 'event', path: 'events' },
  })
}

function deliveries(view: View, caption: string, rows: readonly DeliveryEntry[]): Html {
  return letters(view, {
    caption,
    empty: '',
    rows,
    first: 'Message',
    other: { name: 'Subscriber', cell: ({ subscriber }) => subscriber },
    since: { name: 'Made', of: ({ createdAt }) => createdAt },
    again: { text: 'Send again', what: 'message', path: 'deliveries' },
  })
}

interface Letter {
  id: string
  type: string
  state: string
  attempts: number
  /** What the other side answered. */
  status?: number | null
  error: { code: string } | null
}

/** Events and messages alike: what it is, how it went, and the way to try again. */
function letters<Row extends Letter>(
  view: View,
  given: {
    caption: string
    empty: string
    rows: readonly Row[]
    first: string
    other: Column<Row>
    since: { name: string; of(row: Row): Date }
    again: { text: string; what: string; path: string }
  },
): Html {
  const { caption, empty, rows, first, other, since, again } = given
  return table<Row>({
    caption,
    empty,
    rows,
    columns: [
      { name: first, cell: ({ id, type }) => html`<bdi>${type}</bdi> <span class="soft">${id}</span>` },
      other,
      {
        name: 'State',
        cell: ({ state, status, error }) =>
          html`${badge(tones[state] ?? 'none', state)}${typeof status === 'number' && html` ${status}`}${error !== null && html` <code>${error.code}</code>`}`,
      },
      { name: 'Attempts', numeric: true, cell: ({ attempts }) => attempts },
      { name: since.name, cell: (row) => relative(since.of(row), view.now, view.timezone) },
      ...actionColumn<Row>(
        view,
        helpers,
        ({ id, state }) =>
          state === 'dead' &&
          postButton(view, {
            action: `/ops/webhooks/${again.path}/${id}/replay`,
            text: again.text,
            about: `${again.what} ${id}`,
            look: 'quiet',
          }),
      ),
    ],
  })
}
