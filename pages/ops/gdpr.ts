import type { GdprRequest } from '../../lib/gdpr/index.ts'
import { type Html, html } from '../html.ts'
import { badge, counted, facts, json, type Tone, table } from '../parts.ts'
import { time } from '../time.ts'
import { askButton, keepers, may, postForm, type View } from './shell.ts'

const dayMs = 86_400_000
/** Of the open requests. */
const openRows = 100
const kinds: Record<GdprRequest['kind'], string> = { export: 'Export', erase: 'Erasure', rectify: 'Correction' }

/** Days until the deadline, rounded down; negative once it has passed. */
export function daysLeft({ dueAt }: Pick<GdprRequest, 'dueAt'>, now: Date): number {
  return Math.floor((dueAt.getTime() - now.getTime()) / dayMs)
}

export function dueBadge(request: GdprRequest, now: Date): Html {
  if (request.finishedAt !== null) return badge(request.state === 'refused' ? 'none' : 'ok', request.state)
  const days = daysLeft(request, now)
  const tone: Tone = days < 0 ? 'bad' : days < 7 ? 'warn' : 'ok'
  return badge(tone, days < 0 ? `${counted(-days, 'day')} overdue` : `${counted(days, 'day')} left`)
}

export function gdprPage(view: View, requests: readonly GdprRequest[]): Html {
  const { timezone, now } = view
  const open = requests.filter(({ finishedAt }) => finishedAt === null).sort((a, b) => a.dueAt.getTime() - b.dueAt.getTime())
  const ended = requests.filter(({ finishedAt }) => finishedAt !== null)
  const show = (caption: string, empty: string, rows: readonly GdprRequest[]) =>
    table({
      caption,
      empty,
      rows,
      columns: [
        {
          name: 'Request',
          cell: ({ id, kind }) => html`<a href="/ops/gdpr/${id}">${kinds[kind]}</a> <span class="soft">${id.slice(0, 8)}</span>`,
        },
        { name: 'Deadline', cell: (request) => dueBadge(request, now) },
        {
          name: 'State',
          cell: ({ state, review }) =>
            html`${state.replaceAll('_', ' ')}${review === 'needed' && html` ${badge('warn', 'review needed')}`}`,
        },
        { name: 'Received', cell: ({ receivedAt }) => time(receivedAt, timezone) },
        { name: 'Due', cell: ({ dueAt }) => time(dueAt, timezone) },
      ],
    })
  return html`<h1>Privacy requests</h1>
<p class="soft">Exports, erasures and corrections that people asked for. Nobody is named: a request knows its person by a keyed hash alone.</p>
<h2>Open</h2>${show(`The one that is due first stands first${open.length > openRows ? `: ${openRows} of ${open.length}` : ''}`, 'No request is open.', open.slice(0, openRows))}
<h2>Ended</h2>${show(`The newest ${ended.length}`, 'No request has ended yet.', ended)}`
}

export function gdprRequestPage(view: View, request: GdprRequest): Html {
  const { timezone, now } = view
  const open = request.finishedAt === null
  return html`<h1>${kinds[request.kind]}</h1>
<p>${dueBadge(request, now)}</p>
${facts([
  ['Id', html`<code>${request.id}</code>`],
  ['State', request.state.replaceAll('_', ' ')],
  ['Person (keyed hash)', html`<code>${request.subjectHash}</code>`],
  ['Verified by', request.verifiedBy ?? 'nobody yet'],
  ['Received', time(request.receivedAt, timezone)],
  ['Begins at the earliest', time(request.notBefore, timezone, 'at once')],
  ['Due', time(request.dueAt, timezone)],
  ['Extended', request.extendedAt === null ? 'no' : html`${time(request.extendedAt, timezone)}: ${request.extensionReason}`],
  ['Ended', time(request.finishedAt, timezone, 'not yet')],
  ...(request.reason === null ? [] : ([['Reason', request.reason]] as const)),
])}
${
  open &&
  may(view, keepers) &&
  html`<h2>Decide</h2>
<p class="acts">${request.review === 'needed' && askButton({ href: `/ops/gdpr/${request.id}/approve`, text: 'Approve…' })}${askButton({ href: `/ops/gdpr/${request.id}/refuse`, text: 'Refuse…' })}</p>
${
  request.extendedAt === null &&
  html`<section class="card"><h3>Extend by two months</h3>${postForm(
    view,
    `/ops/gdpr/${request.id}/extend`,
    (form) =>
      html`${form.field({ id: 'reason', label: 'Reason that the person is told', hint: 'They must be told within the first month. It can be done once.', required: true, maxLength: 500, rows: 2 })}<button class="quiet">Extend</button>`,
  )}</section>`
}`
}
${request.receipt !== null && html`<h2>Receipt</h2>${json(request.receipt)}`}`
}
