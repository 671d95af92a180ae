import type { Alert, Notification, RuleInfo, Silence } from '../../lib/alerts/index.ts'
import { type Html, html } from '../html.ts'
import { actorText, badge, newestOf, type Tone, table } from '../parts.ts'
import { relative } from '../time.ts'
import { actionColumn, builders, may, postButton, postForm, type View } from './shell.ts'

const tones: Record<Alert['state'], Tone> = { firing: 'bad', pending: 'warn', ok: 'ok' }
const sent: Record<Notification['state'], Tone> = { waiting: 'none', delivered: 'ok', dead: 'bad', superseded: 'none' }

/** More conditions at once are one trouble: the ones that fire stand in front. */
const alertRows = 100

/** How long a silence may be asked for, in hours. */
export const silenceHours = [1, 2, 8, 24, 72, 168] as const

export interface AlertsShown {
  alerts: readonly Alert[]
  silences: readonly (Silence & { matcher: string })[]
  notifications: readonly Notification[]
  channels: readonly string[]
  rules: readonly RuleInfo[]
  /** What the form to silence begins with. */
  matcher: string
}

export function alertsPage(view: View, { alerts, silences, notifications, channels, rules, matcher }: AlertsShown): Html {
  const { timezone, now } = view
  return html`<h1>Alerts</h1>
<p class="soft">An alert is a condition; people are told of its incident. ${
    channels.length === 0 && 'No channel is configured: nobody is told of anything.'
  }</p>
${table({
  caption: leftOut('What holds now, and what was over in the last 24 hours', alerts.length),
  empty: 'No condition holds.',
  rows: alerts.slice(0, alertRows),
  columns: [
    {
      name: 'Alert',
      cell: ({ rule, labels, summary }) =>
        html`${rule}${Object.entries(labels).map(([name, value]) => html` <code>${name}=${value}</code>`)}<br><span class="soft">${summary}</span>`,
    },
    {
      name: 'State',
      cell: ({ state, withheld }) => html`${badge(tones[state], state)}${withheld !== null && html` ${badge('none', withheld)}`}`,
    },
    { name: 'Severity', cell: ({ severity }) => severity },
    {
      name: 'Component',
      cell: ({ component, root }) =>
        html`${component}${root !== null && root !== component && html` <span class="soft">because of ${root}</span>`}`,
    },
    {
      name: 'Since',
      cell: ({ since, state, resolvedAt }) =>
        html`${relative(since, now, timezone)}${state === 'ok' && html`, over ${relative(resolvedAt, now, timezone)}`}`,
    },
    ...actionColumn<Alert>(
      view,
      builders,
      ({ rule, state }) =>
        state !== 'ok' &&
        html`<a href="/ops/alerts?matcher=${encodeURIComponent(`rule=${rule}`)}#silence">Silence<span class="vh"> ${rule}</span></a>`,
    ),
  ],
})}
<h2>Silences</h2>
${table({
  caption: leftOut('Silences that hold, the one that ends first in front', silences.length),
  empty: 'Nothing is silenced.',
  rows: silences.slice(0, alertRows),
  columns: [
    { name: 'What', cell: (one) => html`<code>${one.matcher}</code>` },
    { name: 'Why', cell: ({ reason }) => reason },
    { name: 'Who', cell: ({ createdBy }) => actorText(createdBy) },
    { name: 'Ends', cell: ({ endsAt }) => relative(endsAt, now, timezone) },
    ...actionColumn<Silence & { matcher: string }>(view, builders, ({ id, matcher: what }) =>
      postButton(view, { action: `/ops/silences/${id}/end`, text: 'End', about: `the silence of ${what}`, look: 'quiet' }),
    ),
  ],
})}
${
  may(view, builders) &&
  postForm(
    view,
    '/ops/silences',
    (form) =>
      html`<h3 id="silence">Silence</h3>${form.field({
        id: 'matcher',
        label: 'What',
        value: matcher,
        required: true,
        maxLength: 500,
        hint: 'A rule or component such as stripe, or component=stripe,severity=P3. * stands for any characters.',
      })}${form.field({ id: 'hours', label: 'For', options: silenceHours.map((hours) => [String(hours), hours < 48 ? `${hours} h` : `${hours / 24} days`] as const), value: '2' })}${form.field(
        {
          id: 'reason',
          label: 'Why',
          required: true,
          maxLength: 500,
          hint: 'For whoever wonders why it is quiet.',
        },
      )}<button>Silence</button>`,
    'card',
  )
}
<h2>Channels</h2>
${table({
  caption: 'Where people are told',
  empty: 'The policy has no channel.',
  rows: channels,
  columns: [
    { name: 'Channel', cell: (name) => name },
    {
      name: 'Waiting',
      numeric: true,
      cell: (name) => notifications.filter(({ channel, state }) => channel === name && state === 'waiting').length,
    },
    {
      name: 'Last delivered',
      cell: (name) =>
        relative(notifications.find(({ channel, state }) => channel === name && state === 'delivered')?.deliveredAt, now, timezone),
    },
    ...actionColumn<string>(view, builders, (name) =>
      postButton(view, {
        action: `/ops/channels/${encodeURIComponent(name)}/test`,
        text: 'Send a test',
        about: `on ${name}`,
        look: 'quiet',
      }),
    ),
  ],
})}
<h2>What people were told</h2>
${notificationsTable(view, notifications)}
<h2>What is watched</h2>
<details><summary>${rules.length} rules, checks and events</summary>${table({
    caption: 'Of the policy, and what Caretaker knows by itself',
    empty: 'Nothing is watched.',
    rows: rules,
    columns: [
      { name: 'Rule', cell: ({ name, enabled }) => html`${name}${!enabled && html` ${badge('none', 'off')}`}` },
      { name: 'Fires when', cell: ({ condition }) => condition },
      { name: 'Component', cell: ({ component }) => component },
      { name: 'Severity', cell: ({ severity }) => severity },
      { name: 'Tells', cell: ({ notify }) => (notify === null ? 'as the severity says' : notify.join(', ')) },
    ],
  })}</details>`
}

function leftOut(what: string, all: number): string {
  return all > alertRows ? `${what}: the first ${alertRows} of ${all.toLocaleString('en')}` : what
}

/** How many of them a page shows. */
export const notificationRows = 50

export function notificationsTable({ now, timezone }: View, notifications: readonly Notification[]): Html {
  return table({
    caption: notifications.length < notificationRows ? 'Newest first' : newestOf('Newest first', notificationRows),
    empty: 'Nobody was told of anything.',
    rows: notifications,
    columns: [
      {
        name: 'What',
        cell: ({ kind, incident, payload }) =>
          incident === null
            ? html`${kind} ${payload.title}`
            : html`${kind} <a href="/ops/incidents/${incident}">#${payload.number} ${payload.title}</a>`,
      },
      { name: 'Channel', cell: ({ channel }) => channel },
      {
        name: 'State',
        cell: ({ state, error }) => html`${badge(sent[state], state)}${error !== null && html` <code>${error.code}</code>`}`,
      },
      { name: 'Attempts', numeric: true, cell: ({ attempts }) => attempts },
      { name: 'Made', cell: ({ createdAt }) => relative(createdAt, now, timezone) },
    ],
  })
}
