import type { MaintenanceWindow } from '../../lib/health/index.ts'
import { type Html, html } from '../html.ts'
import { nextOfEach } from '../maintenance.ts'
import { badge, table } from '../parts.ts'
import { time } from '../time.ts'
import { actionColumn, askButton, builders, may, postForm, type View } from './shell.ts'

/** Maintenance windows: those of the policy, those announced by hand, and the form that announces one. */
export function maintenancePage(view: View, shown: { windows: readonly MaintenanceWindow[]; checks: readonly string[] }): Html {
  const { timezone, now } = view
  const state = ({ startsAt, endsAt }: MaintenanceWindow): Html =>
    startsAt > now ? badge('none', 'planned') : endsAt > now ? badge('warn', 'open') : badge('ok', 'over')
  const zone = timezone === 'UTC' ? 'UTC' : timezone
  return html`<h1>Maintenance</h1>
<p class="soft">What fails in a window is no outage, and pages nobody. Windows are on the public status page.</p>
${table({
  caption: 'Windows from a week ago to a year ahead; of those that recur, the one that is open or comes next',
  empty: 'No maintenance is planned.',
  rows: nextOfEach(shown.windows.filter(({ recurring, endsAt }) => !recurring || endsAt > now)),
  columns: [
    {
      name: 'Window',
      cell: ({ title, body }) => html`<bdi>${title}</bdi>${body !== null && html`<br><span class="soft" dir="auto">${body}</span>`}`,
    },
    { name: 'State', cell: state },
    { name: 'Begins', cell: ({ startsAt }) => time(startsAt, timezone) },
    { name: 'Ends', cell: ({ endsAt }) => time(endsAt, timezone) },
    { name: 'Of', cell: ({ components }) => (components === 'all' ? 'everything' : components.join(', ')) },
    ...actionColumn<MaintenanceWindow>(view, builders, ({ id, title, recurring, startsAt, endsAt }) =>
      recurring
        ? html`<span class="soft">of the policy</span>`
        : endsAt > now && askButton({ href: `/ops/maintenance/${id}/end`, text: startsAt > now ? 'Call off…' : 'End now…', about: title }),
    ),
  ],
})}
${
  may(view, builders) &&
  html`<h2>Announce maintenance</h2>${postForm(
    view,
    '/ops/maintenance',
    (form) => html`${form.field({ id: 'title', label: 'Title', hint: 'Shown to everybody.', required: true, maxLength: 200 })}
${form.field({ id: 'body', label: 'What users should know', rows: 2, maxLength: 5_000 })}
<div class="row">${form.field({ id: 'startsAt', label: `Begins (${zone})`, type: 'datetime-local', hint: 'Empty: now.' })}${form.field({ id: 'endsAt', label: `Ends (${zone})`, type: 'datetime-local', required: true })}</div>
<fieldset><legend>Checks that may fail meanwhile</legend><p class="hint">None ticked: every one.</p><div class="ticks">${form.boxes('components', shown.checks)}</div></fieldset><p><button>Announce</button></p>`,
    'card',
  )}`
}`
}
