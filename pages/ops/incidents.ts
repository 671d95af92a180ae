import type { Incident, IncidentDetail, IncidentEvent, Notification, Severity } from '../../lib/alerts/index.ts'
import { type Content, type Html, html, safeHref } from '../html.ts'
import { actorText, badge, facts, newestOf, type Tone, table } from '../parts.ts'
import { relative, time } from '../time.ts'
import { notificationsTable } from './alerts.ts'
import type { Form } from './form.ts'
import { actionColumn, builders, helpers, may, postButton, postForm, type View } from './shell.ts'

export function stateBadge({ state, acknowledgedAt, partOf }: Pick<Incident, 'state' | 'acknowledgedAt' | 'partOf'>): Html {
  if (partOf !== null) return html`${badge('none', 'part of')} <a href="/ops/incidents/${partOf}">#${partOf}</a>`
  const tone: Tone = state === 'resolved' ? 'ok' : acknowledgedAt === null ? 'bad' : 'warn'
  return html`${badge(tone, state)}${state !== 'resolved' && html` <span class="soft">${acknowledgedAt === null ? 'not acknowledged' : 'acknowledged'}</span>`}`
}

/** Of the incidents that are open. */
export const openIncidentRows = 200
/** Of an incident's alerts, and of its timeline at a time. */
const alertRows = 100
export const eventRows = 100

/** The worst stand first, then what nobody has taken on, then the newest. */
export function worstFirst(incidents: readonly Incident[], severities: readonly Severity[]): Incident[] {
  const rank = ({ severity }: Incident) => severities.findIndex(({ name }) => name === severity)
  return [...incidents].sort(
    (a, b) => rank(a) - rank(b) || Number(a.acknowledgedAt !== null) - Number(b.acknowledgedAt !== null) || b.number - a.number,
  )
}

export function incidentsTable(view: View, given: { caption: string; empty: string; rows: readonly Incident[] }): Html {
  const { now, timezone } = view
  return table({
    ...given,
    columns: [
      { name: 'Incident', cell: ({ number, title, id }) => html`<a href="/ops/incidents/${id}">#${number} <bdi>${title}</bdi></a>` },
      { name: 'State', cell: stateBadge },
      { name: 'Severity', cell: ({ severity }) => severity },
      { name: 'Component', cell: ({ component }) => component },
      { name: 'Opened', cell: ({ openedAt }) => relative(openedAt, now, timezone) },
      ...actionColumn<Incident>(
        view,
        helpers,
        ({ id, number, state, acknowledgedAt }) =>
          state !== 'resolved' &&
          acknowledgedAt === null &&
          postButton(view, { action: `/ops/incidents/${id}/acknowledge`, text: 'Acknowledge', about: `incident ${number}` }),
      ),
    ],
  })
}

export function incidentsPage(
  view: View,
  shown: { open: readonly Incident[]; resolved: readonly Incident[]; older: number | null; severities: readonly Severity[] },
): Html {
  return html`<h1>Incidents</h1>
<h2>Open</h2>
${incidentsTable(view, { caption: shown.open.length < openIncidentRows ? 'Worst first' : newestOf('Worst first', openIncidentRows), empty: 'Nothing is wrong that anybody knows of.', rows: worstFirst(shown.open, shown.severities) })}
<h2>Resolved</h2>
${incidentsTable({ ...view, session: { ...view.session, role: 'viewer' } }, { caption: 'Newest first', empty: 'There was no incident yet.', rows: shown.resolved })}
${shown.older !== null && html`<p><a href="/ops/incidents?before=${shown.older}">Older</a></p>`}
${
  may(view, builders) &&
  html`<h2>Open an incident</h2>${postForm(
    view,
    '/ops/incidents',
    (form) => html`${form.field({ id: 'title', label: 'What is wrong', hint: 'For operators.', required: true, maxLength: 200 })}
${severityField(form, shown.severities, '')}
${form.field({ id: 'component', label: 'Component', hint: 'The name of a check; its alerts then join this incident. May be empty.', maxLength: 100 })}
${form.field({ id: 'message', label: 'First update for the status page', hint: 'Shown to everybody where the severity is public. May be empty.', rows: 2, maxLength: 5_000 })}
<button>Open</button>`,
    'card',
  )}
${table({
  caption: 'Severities of the policy',
  empty: '',
  rows: shown.severities,
  columns: [
    { name: 'Severity', cell: ({ name }) => name },
    { name: 'Meaning', cell: ({ description }) => description },
    { name: 'Respond within', cell: ({ respondWithin }) => respondWithin ?? 'no limit' },
    { name: 'Status page', cell: (one) => (one.public ? 'yes' : 'no') },
  ],
})}`
}`
}

export interface IncidentShown extends IncidentDetail {
  /** The event that the part of the timeline before this one ends above. */
  older: string | null
  severities: readonly Severity[]
  notifications: readonly Notification[]
  /** An event in words. */
  describe(event: IncidentEvent): string
}

export function incidentPage(view: View, shown: IncidentShown): Html {
  const { incident, alerts, timeline, older, notifications, describe } = shown
  const { timezone, now } = view
  const { id, number } = incident
  const open = incident.state !== 'resolved'
  const mayHelp = may(view, helpers)
  const at = (verb: string) => `/ops/incidents/${id}/${verb}`
  return html`<h1>#${number} <bdi>${incident.title}</bdi></h1>
<p>${stateBadge(incident)}</p>
${mayHelp && html`<div class="acts">${open && incident.acknowledgedAt === null && postButton(view, { action: at('acknowledge'), text: 'Acknowledge' })}<a class="button quiet" href="#act">${open ? 'Update, note or resolve' : 'Note or root cause'}</a></div>`}
${facts([
  ['Severity', incident.severity],
  ['Component', incident.component ?? 'none named'],
  ['Also affected', incident.affected.length === 0 ? 'nothing' : incident.affected.join(', ')],
  ['Opened', html`${time(incident.openedAt, timezone)} by ${actorText(incident.openedBy)}`],
  [
    'Acknowledged',
    incident.acknowledgedAt === null
      ? 'not yet'
      : html`${time(incident.acknowledgedAt, timezone)} by ${actorText(incident.acknowledgedBy)}`,
  ],
  ...(open && incident.acknowledgedAt === null
    ? ([
        [
          'Respond by',
          html`${time(incident.respondBy, timezone, 'no limit')}${incident.responseMissedAt !== null && html` ${badge('bad', 'missed')}`}`,
        ],
        [
          'More are told',
          incident.escalatedAt === null
            ? relative(incident.escalateAt, now, timezone)
            : html`since ${time(incident.escalatedAt, timezone)}`,
        ],
        ['Told again', relative(incident.nextReminderAt, now, timezone)],
      ] as const)
    : []),
  ...(open || incident.partOf !== null
    ? []
    : ([['Resolved', html`${time(incident.resolvedAt, timezone)} by ${actorText(incident.resolvedBy)}`]] as const)),
  ...(incident.partOf === null
    ? []
    : ([
        [
          'Part of',
          html`<a href="/ops/incidents/${incident.partOf}">incident #${incident.partOf}</a> since ${time(incident.resolvedAt, timezone)}: it speaks for both`,
        ],
      ] as const)),
  ['Root cause', incident.rootCause ?? 'not written down yet'],
  ['Status page', incident.public ? `shown as “${incident.publicTitle ?? 'Service disruption'}”` : 'not shown'],
])}
<p class="unprinted"><a href="${at('postmortem.md')}">Post-mortem as Markdown</a></p>
<h2>Alerts</h2>
${table({
  caption: `Conditions of this incident${alerts.length > alertRows ? `: the first ${alertRows} of ${alerts.length.toLocaleString('en')}` : ''}`,
  empty: 'No alert: it was opened by hand.',
  rows: alerts.slice(0, alertRows),
  columns: [
    { name: 'Alert', cell: ({ rule, summary }) => html`${rule}<br><span class="soft">${summary}</span>` },
    {
      name: 'State',
      cell: ({ clearedAt }) =>
        clearedAt === null ? badge('bad', 'firing') : html`${badge('ok', 'clear')} since ${relative(clearedAt, now, timezone)}`,
    },
    { name: 'Component', cell: ({ component }) => component },
    { name: 'Since', cell: ({ since }) => time(since, timezone) },
    { name: 'Runbook', cell: ({ runbook, rule }) => runbookLink(runbook, rule) },
  ],
})}
${
  incident.checklist.length > 0 &&
  html`<h2>Checklist</h2><ol class="checks">${incident.checklist.map(
    (item, index) =>
      html`<li><span>${item.doneAt === null ? '' : badge('ok', 'done')} ${item.text}${item.doneAt !== null && html` <span class="soft">${relative(new Date(item.doneAt), now, timezone)}</span>`}</span>${
        mayHelp &&
        postButton(view, {
          action: at('check'),
          text: item.doneAt === null ? 'Done' : 'Undo',
          about: `item ${index + 1}`,
          look: 'quiet',
          fields: { item: String(index + 1), done: item.doneAt === null ? 'yes' : 'no' },
        })
      }</li>`,
  )}</ol>`
}
<h2>Timeline</h2>
${older !== null && html`<p class="soft">${timeline.length} events. <a href="/ops/incidents/${id}?before=${older}">Older</a></p>`}
<ol class="line">${timeline.map(
    (event) =>
      html`<li>${time(event.at, timezone)} ${event.public && incident.public && badge('none', 'public')}<br>${describe(event)}${event.body !== null && html`<blockquote>${event.body}</blockquote>`}</li>`,
  )}</ol>
${mayHelp && forms(view, shown)}
<h2>Who was told</h2>
${notificationsTable(view, notifications)}`
}

/** What can be done, by who looks and whether it is over. */
function forms(view: View, { incident, severities }: IncidentShown): Html {
  const open = incident.state !== 'resolved'
  const decides = open && may(view, builders)
  const one = (title: string, verb: string, fields: (form: Form) => Content) =>
    html`<section class="card"><h2>${title}</h2>${postForm(view, `/ops/incidents/${incident.id}/${verb}`, fields)}</section>`
  const update = (form: Form) =>
    html`${form.field({
      id: 'state',
      label: 'State',
      value: incident.state,
      options: ['investigating', 'identified', 'monitoring'].map((state) => [state, state] as const),
    })}${form.field({
      id: 'message',
      label: 'What to tell',
      hint: incident.public ? 'Shown on the status page.' : 'Told to everybody who knows of it.',
      rows: 3,
      maxLength: 5_000,
    })}${form.field({
      id: 'public',
      label: 'Status page',
      value: incident.public ? 'yes' : 'no',
      options: [
        ['yes', 'shown'],
        ['no', 'not shown'],
      ],
    })}${form.field({ id: 'publicTitle', label: 'Its name there', value: incident.publicTitle ?? '', placeholder: 'Service disruption', maxLength: 200 })}<button>Update</button>`
  const severity = (form: Form) =>
    html`${severityField(form, severities, incident.severity)}${form.field({ id: 'reason', label: 'Why', maxLength: 500 })}<button>Change</button>`
  const cause = (form: Form) =>
    form.field({
      id: 'rootCause',
      label: 'Root cause',
      hint: 'For operators and the post-mortem.',
      value: incident.rootCause ?? '',
      required: !open,
      rows: 2,
      maxLength: 5_000,
    })
  const resolve = (form: Form) =>
    html`${form.field({ id: 'resolve-message', name: 'message', label: 'Last update', rows: 2, maxLength: 5_000 })}${cause(form)}<button>Resolve</button>`
  return html`<div class="grid wide unprinted" id="act">${open && one('Update', 'update', update)}${one(
    'Note',
    'note',
    (form) => html`${form.field({ id: 'note', label: 'For operators', required: true, rows: 3, maxLength: 5_000 })}<button>Add</button>`,
  )}${decides && one('Severity', 'severity', severity)}${decides && one('Resolve', 'resolve', resolve)}${
    !open && one('Root cause', 'root-cause', (form) => html`${cause(form)}<button>Keep</button>`)
  }</div>`
}

function severityField(form: Form, severities: readonly Severity[], value: string): Html {
  return form.field({
    id: 'severity',
    label: 'Severity',
    value,
    required: true,
    options: [
      // Nobody pages everybody by not having chosen.
      ...(value === '' ? [['', 'Choose one'] as const] : []),
      ...severities.map(({ name, description }) => [name, description === null ? name : `${name}: ${description}`.slice(0, 80)] as const),
    ],
  })
}

function runbookLink(runbook: string | null, rule: string): Html | null {
  const href = runbook === null ? null : safeHref(runbook)
  return href === null ? null : html`<a href="${href}" rel="noreferrer">Runbook<span class="vh"> of ${rule}</span></a>`
}
