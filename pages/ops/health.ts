import type { CheckResult, HealthChange, HealthObservation, HistoryStatus } from '../../lib/health/index.ts'
import { type Html, html } from '../html.ts'
import { badge, newestOf, type Tone, table } from '../parts.ts'
import { relative, spanText, time } from '../time.ts'
import { builders, may, postButton, type View } from './shell.ts'

const tones: Record<HistoryStatus, Tone> = { up: 'ok', down: 'bad', maintenance: 'warn', unknown: 'none' }

/** How a check stands, and why. */
export function statusOf({ status, cause }: { status: HistoryStatus; cause?: string | null | undefined }): Html {
  if (cause === 'not_configured') return badge('none', 'not configured')
  return html`${badge(tones[status], status)}${typeof cause === 'string' && html` <code>${cause}</code>`}`
}

/** Of the changes of 48 hours. */
const changeRows = 200

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
  caption: newestOf('Newest first', changeRows, shown.changes.length),
  empty: 'Nothing has changed.',
  rows: shown.changes.slice(0, changeRows),
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
