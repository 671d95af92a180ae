import type { PublicIncident } from '../../lib/alerts/index.ts'
import type { MaintenanceWindow } from '../../lib/health/index.ts'
import { type Html, html, safeHref } from '../html.ts'
import { document } from '../layout.ts'
import { badge, banner, type Tone, table } from '../parts.ts'
import { dayBars, linePlot } from '../plot.ts'
import { dayText, latencyText, time } from '../time.ts'
import { componentName, goesOn, type PublicComponent, type PublicStatus } from './model.ts'
import { dayWords, indicatorTones, secondsText, statusWords, uptimeText } from './words.ts'

/** Past incidents on the page, and updates of one; the feed has more. */
const pastShown = 10
const updatesShown = 20

/** The public status page: one document, no script. */
export function statusPage(status: PublicStatus): Html {
  const open = status.incidents.filter(({ resolvedAt }) => resolvedAt === null)
  const past = status.incidents.filter(({ resolvedAt }) => resolvedAt !== null)
  return framed(
    status,
    'Status',
    html`<h1 class="vh">Status of ${status.title}</h1>
${banner(indicatorTones[status.indicator], status.description)}
${!status.complete && html`<p>The history cannot be read at the moment. What follows was looked at just now.</p>`}
${open.length > 0 && html`<section aria-labelledby="open"><h2 id="open">Now</h2>${open.map((one) => incidentCard(status, one))}</section>`}
${status.maintenance.length > 0 && html`<section aria-labelledby="plan"><h2 id="plan">Maintenance</h2>${status.maintenance.map((one) => windowCard(status, one))}</section>`}
${status.groups.map((group, index) => {
  const members = status.components.filter((component) => component.group === group)
  return html`<section aria-labelledby="g${index}"><h2 id="g${index}">${group ?? (status.groups.length > 1 ? 'General' : 'Systems')}</h2><div class="card">${members.map((one) => componentRow(status, one))}${status.complete && ends(members[0])}</div></section>`
})}
${status.components.length === 0 ? html`<p class="soft">Nothing is watched yet.</p>` : status.complete && dayKey}
${status.complete && responseTimes(status, status.plots)}
${
  // Incidents that cannot be read are not none.
  status.complete &&
  html`<section aria-labelledby="past"><h2 id="past">Past incidents</h2>${
    past.length === 0
      ? html`<p class="soft">None in the last ${status.components[0]?.days.length ?? 90} days.</p>`
      : past.slice(0, pastShown).map((one) => incidentCard(status, one))
  }${past.length > pastShown && html`<p><a href="/status/feed.atom">${past.length - pastShown} more in the feed</a></p>`}</section>`
}`,
  )
}

/** One component: its days, its response times, and every day on which something was wrong. */
export function componentPage(status: PublicStatus, component: PublicComponent): Html {
  const days = component.days.map((day, index) => ({ day, state: component.states[index] ?? 'unknown', at: dayAt(status, index) }))
  const troubled = days.filter(({ day }) => day !== null && (day.down > 0 || day.maintenance > 0)).reverse()
  return framed(
    status,
    component.name,
    html`<p><a href="/status">All systems</a></p>
<div class="comp"><h1>${component.name}</h1>${statusBadge(component)}</div>
${status.complete && html`<h2>${days.length} days</h2><div class="card"><p>${uptimeText(component.uptime)}</p>${bars(component)}${ends(component)}</div>${dayKey}`}
${
  status.complete
    ? html`${responseTimes(status, [component], true)}
<h2>Days with an outage or maintenance</h2>
${table({
  caption: 'Days are those of UTC',
  empty: `None in ${days.length} days.`,
  rows: troubled,
  columns: [
    { name: 'Day', cell: ({ at }) => dayText(at, 'UTC') },
    { name: 'What', cell: ({ state }) => dayWords[state] },
    { name: 'Down', numeric: true, cell: ({ day }) => secondsText(day?.down ?? 0) },
    { name: 'Maintenance', numeric: true, cell: ({ day }) => secondsText(day?.maintenance ?? 0) },
  ],
})}`
    : html`<p>The history cannot be read at the moment. What is above was looked at just now.</p>`
}`,
  )
}

/** What stands there where there is nothing of that name, or the page cannot be made. */
export function statusProblem(title: string, words: string): Html {
  return document({ title: words, app: title, home: '/status', main: html`<h1>${words}</h1><p><a href="/status">Status</a></p>` })
}

function framed(status: PublicStatus, title: string, main: Html): Html {
  const support = status.support === null ? null : safeHref(status.support)
  return document({
    title,
    app: status.title,
    home: '/status',
    indexed: true,
    head: html`<link rel="alternate" type="application/atom+xml" title="Incidents" href="/status/feed.atom">`,
    main,
    footer: html`<p>As of ${time(status.now, status.timezone)}. <a href="/status/feed.atom">Feed</a> · <a href="/status.json">JSON</a>${support !== null && html` · <a href="${support}">Support</a>`}</p>`,
  })
}

function componentRow(status: PublicStatus, component: PublicComponent): Html {
  const { name, check, uptime } = component
  const share = status.complete && html` <small>${uptimeText(uptime)}</small>`
  return html`<div class="comp"><h3><a href="/status/${check}">${name}</a>${share}</h3>${statusBadge(component)}</div>${status.complete && bars(component)}`
}

function statusBadge({ status, cause }: PublicComponent): Html {
  const { tone, text } = statusWords[status]
  return badge(tone, cause === null ? text : `${text}: ${cause}`)
}

function bars(component: PublicComponent): Html {
  return dayBars({ days: component.states, summary: summaryOf(component) })
}

/** Below the bars: where they begin and end. */
function ends(component: PublicComponent | undefined): Html | false {
  return component !== undefined && html`<div class="ends"><span>${component.days.length} days ago</span><span>today</span></div>`
}

/** What the colours mean; who cannot see them has the summary of each row. */
const dayKey = html`<ul class="key" aria-hidden="true">${(['up', 'partial', 'down', 'maintenance', 'unknown'] as const).map(
  (state) =>
    html`<li><svg class="days" viewBox="0 0 3 10" preserveAspectRatio="none"><path class="d-${state}" d="M0 5h3"/></svg>${dayWords[state]}</li>`,
)}</ul>`

/** What the bars show, in words: it is all that a screen reader reads of them. */
function summaryOf({ states, uptime }: PublicComponent): string {
  const count = (state: string) => states.filter((one) => one === state).length
  const parts = (['down', 'partial', 'maintenance', 'unknown'] as const).flatMap((state) =>
    count(state) === 0 ? [] : [`${count(state)} with ${dayWords[state]}`],
  )
  return `${states.length} days: ${uptimeText(uptime)}${parts.length === 0 ? '' : `; ${parts.join(', ')}`}`
}

function responseTimes(status: PublicStatus, components: readonly PublicComponent[], both = false): Html | false {
  if (components.length === 0) return false
  const points = (component: PublicComponent, which: 'p50' | 'p95') =>
    component.days.map((day, index) => ({ at: dayAt(status, index), value: day?.[which] ?? null }))
  return linePlot({
    title: 'Response time',
    description: `of each day, ${both ? 'half and 95 % of the answers were faster' : 'half of the answers were faster'}`,
    series: components.flatMap((component) =>
      both
        ? [
            { name: 'half were faster than', points: points(component, 'p50') },
            { name: '95 % were faster than', points: points(component, 'p95') },
          ]
        : [{ name: component.name, points: points(component, 'p50') }],
    ),
    from: status.from,
    to: dayAt(status, (components[0]?.days.length ?? 1) - 1),
    format: latencyText,
    formatTime: (at) => dayText(at, 'UTC'),
    empty: 'Nothing was measured yet.',
  })
}

const impactTones: Record<PublicIncident['impact'], Tone> = { none: 'none', minor: 'warn', major: 'bad', critical: 'bad' }
const stateWords: Record<PublicIncident['state'], string> = {
  investigating: 'Investigating',
  identified: 'Identified',
  monitoring: 'Monitoring',
  resolved: 'Resolved',
}

function incidentCard(status: PublicStatus, incident: PublicIncident): Html {
  const { title, impact, state, startedAt, resolvedAt, partOf, updates } = incident
  const named = namesOf(status, incident.components)
  return html`<article class="card" id="i${incident.id.slice(0, 8)}"><div class="comp"><h3><bdi>${title}</bdi></h3>${
    partOf === null
      ? badge(resolvedAt === null ? impactTones[impact] : 'ok', stateWords[state])
      : html`<a href="#i${partOf.slice(0, 8)}">${badge('none', 'Part of another incident')}</a>`
  }</div>
<p class="soft">${time(startedAt, status.timezone)}${resolvedAt !== null && html` to ${time(resolvedAt, status.timezone)}`}${named !== '' && ` · ${named}`}</p>
${updates.length > 0 && html`<ol class="line">${updates.slice(0, updatesShown).map((update) => html`<li><strong>${goesOn(incident, update) ? 'Part of another incident' : stateWords[update.state]}</strong> <small>${time(update.at, status.timezone)}</small><div class="said">${update.body}</div></li>`)}${updates.length > updatesShown && html`<li><a href="/status/feed.atom">${updates.length - updatesShown} earlier ones in the feed</a></li>`}</ol>`}</article>`
}

function windowCard(status: PublicStatus, window: MaintenanceWindow): Html {
  const { title, body, components, startsAt, endsAt } = window
  const named = components === 'all' ? 'All systems' : namesOf(status, components)
  return html`<article class="card"><div class="comp"><h3><bdi>${title}</bdi></h3>${startsAt <= status.now ? badge('warn', 'In progress') : badge('none', 'Planned')}</div>
<p class="soft">${time(startsAt, status.timezone)} to ${time(endsAt, status.timezone)}${named !== '' && ` · ${named}`}</p>${body !== null && html`<p class="said">${body}</p>`}</article>`
}

function namesOf(status: PublicStatus, checks: readonly string[]): string {
  return checks.flatMap((check) => componentName(status, check) ?? []).join(', ')
}

function dayAt(status: PublicStatus, index: number): Date {
  return new Date(status.from.getTime() + index * 86_400_000)
}
