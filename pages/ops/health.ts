import type { CheckResult, HealthChange, HealthObservation, HistoryStatus, MaintenanceWindow } from '../../lib/health/index.ts'
import { type Html, html } from '../html.ts'
import { badge, type Tone, table } from '../parts.ts'
import { relative, spanText, time } from '../time.ts'
import { builders, field, may, postButton, postForm, type View } from './shell.ts'

const tones: Record<HistoryStatus, Tone> = { up: 'ok', down: 'bad', maintenance: 'warn', unknown: 'none' }

/** How a check stands, and why. */
export function statusOf({ status, cause }: { status: HistoryStatus; cause?: string | null | undefined }): Html {
  if (cause === 'not_configured') return badge('none', 'not configured')
  return html`${badge(tones[status], status)}${typeof cause === 'string' && html` <code>${cause}</code>`}`
}

/** What needs somebody first, what nobody set up last. */
function rank({ status, cause }: HealthObservation): number {
  return cause === 'not_configured' ? 4 : ['down', 'maintenance', 'unknown', 'up'].indexOf(status)
}

export function healthPage(view: View, shown: { now: readonly HealthObservation[]; changes: readonly HealthChange[] }): Html {
  const { timezone, now } = view
  const rows = [...shown.now].sort((a, b) => rank(a) - rank(b))
  return html`<h1>Health</h1>
<p class="soft">As the job <code>health</code> found it, which looks twice before it believes a failure. <a href="/ops/health/now">Every measure, looked at now</a></p>
${may(view, builders) && postButton(view, { action: '/ops/jobs/health/run', text: 'Look now', look: 'quiet', fields: { back: 'health' } })}
${table({
  caption: `${rows.length} checks, what is down first`,
  empty: 'The policy has no checks.',
  rows,
  columns: [
    { name: 'Check', cell: ({ check, critical }) => html`${check}${critical && html` <span class="soft">critical</span>`}` },
    { name: 'Status', cell: statusOf },
    { name: 'Since', cell: ({ since, status }) => (status === 'unknown' ? '' : relative(since, now, timezone)) },
    { name: 'Took', numeric: true, cell: ({ durationMs }) => (durationMs === null ? '' : spanText(durationMs)) },
    { name: 'Last look', cell: ({ at, durationMs }) => (durationMs === null ? 'never' : relative(at, now, timezone)) },
    { name: 'Depends on', cell: ({ dependsOn }) => dependsOn.join(', ') },
  ],
})}
<h2>Changes in the last 48 hours</h2>
${table({
  caption: 'Newest first',
  empty: 'Nothing has changed.',
  rows: shown.changes,
  columns: [
    { name: 'Check', cell: ({ check }) => check },
    { name: 'Became', cell: statusOf },
    { name: 'When', cell: ({ at }) => time(at, timezone) },
  ],
})}`
}

export function healthMeasuresPage(view: View, results: readonly CheckResult[]): Html {
  return html`<h1>Health, looked at now</h1>
${table({
  caption: `${results.length} checks with their measures`,
  empty: 'The policy has no checks.',
  rows: results,
  columns: [
    { name: 'Check', cell: ({ name }) => name },
    {
      name: 'Status',
      cell: ({ status, cause }) => statusOf({ status: status === 'healthy' ? 'up' : status === 'unhealthy' ? 'down' : 'unknown', cause }),
    },
    { name: 'Took', numeric: true, cell: ({ durationMs }) => spanText(durationMs) },
    {
      name: 'Measures',
      cell: ({ measures = {} }) =>
        Object.entries(measures).map(
          ([name, value]) => html`<code>${name}</code> ${Array.isArray(value) && value.length === 0 ? 'none' : String(value)}<br>`,
        ),
    },
    { name: 'Looked', cell: ({ checkedAt }) => relative(new Date(checkedAt), view.now, view.timezone) },
  ],
})}
<p><a href="/ops/health">Back to health</a></p>`
}

/** Maintenance windows: those of the policy, those announced by hand, and the form that announces one. */
export function maintenancePage(view: View, shown: { windows: readonly MaintenanceWindow[]; checks: readonly string[] }): Html {
  const { timezone, now } = view
  const state = ({ startsAt, endsAt }: MaintenanceWindow): Html =>
    startsAt > now ? badge('none', 'planned') : endsAt > now ? badge('warn', 'open') : badge('ok', 'over')
  const zone = timezone === 'UTC' ? 'UTC' : timezone
  return html`<h1>Maintenance</h1>
<p class="soft">What fails in a window is no outage, and pages nobody. Windows are on the public status page.</p>
${table({
  caption: 'Windows from a week ago to three months ahead',
  empty: 'No maintenance is planned.',
  rows: shown.windows,
  columns: [
    { name: 'Window', cell: ({ title, body }) => html`${title}${body !== null && html`<br><span class="soft">${body}</span>`}` },
    { name: 'State', cell: state },
    { name: 'Begins', cell: ({ startsAt }) => time(startsAt, timezone) },
    { name: 'Ends', cell: ({ endsAt }) => time(endsAt, timezone) },
    { name: 'Of', cell: ({ components }) => (components === 'all' ? 'everything' : components.join(', ')) },
    {
      name: 'Action',
      cell: ({ id, title, recurring, startsAt, endsAt }) =>
        recurring
          ? html`<span class="soft">of the policy</span>`
          : endsAt > now &&
            may(view, builders) &&
            postButton(view, {
              action: `/ops/maintenance/${id}/end`,
              text: startsAt > now ? 'Call off' : 'End now',
              about: title,
              look: 'quiet',
            }),
    },
  ],
})}
${
  may(view, builders) &&
  html`<h2>Announce maintenance</h2>${postForm(
    view,
    '/ops/maintenance',
    html`${field({ id: 'title', label: 'Title', hint: 'Shown to everybody.', required: true, maxLength: 200 })}
${field({ id: 'body', label: 'What users should know', rows: 2, maxLength: 5_000 })}
<div class="row">${field({ id: 'startsAt', label: `Begins (${zone})`, type: 'datetime-local', hint: 'Empty: now.' })}${field({ id: 'endsAt', label: `Ends (${zone})`, type: 'datetime-local', required: true })}</div>
<fieldset><legend>Checks that may fail meanwhile</legend><p class="hint">None ticked: every one.</p><div class="ticks">${shown.checks.map(
      (check) => html`<label><input type="checkbox" name="components" value="${check}"> ${check}</label>`,
    )}</div></fieldset><p><button>Announce</button></p>`,
    'card',
  )}`
}`
}
