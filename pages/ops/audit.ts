import type { OperatorKey } from '../../lib/http/index.ts'
import type { AuditRow } from '../../lib/platform/audit.ts'
import { type Html, html } from '../html.ts'
import { actorText, counted, newestOf, table } from '../parts.ts'
import { time } from '../time.ts'
import { field } from './form.ts'
import { askButton, type View } from './shell.ts'

/** Who did what, newest first; the page before ends above `older`. */
export function auditPage(view: View, given: { rows: readonly AuditRow[]; action: string; older: number | null }): Html {
  const { rows, action, older } = given
  const link = (before: number) => `/ops/audit?before=${before}${action === '' ? '' : `&action=${encodeURIComponent(action)}`}`
  return html`<h1>Audit trail</h1>
<p class="soft">Each row's hash covers the row before. <code>caretaker security report</code> walks the chain.</p>
<form method="get" action="/ops/audit" class="row">${field({ id: 'action', label: 'Action begins with', value: action, maxLength: 80, placeholder: 'gdpr' })}<button>Show</button></form>
${table({
  caption: 'Newest first',
  empty: 'Nothing was done yet.',
  rows,
  columns: [
    { name: 'No.', cell: ({ seq }) => seq },
    { name: 'When', cell: ({ at }) => time(at, view.timezone) },
    { name: 'Who', cell: ({ actor }) => actorText(actor) },
    { name: 'Action', whole: true, cell: (row) => html`<code>${row.action}</code>` },
    { name: 'On', cell: ({ target }) => html`<code>${target}</code>` },
    { name: 'Detail', cell: ({ detail }) => Object.keys(detail ?? {}).length > 0 && html`<code>${JSON.stringify(detail)}</code>` },
  ],
})}
${older !== null && html`<p><a href="${link(older)}">Older</a></p>`}`
}

/** As many as are listed. */
const keyRows = 500

export function keysPage(view: View, keys: readonly OperatorKey[]): Html {
  const { timezone } = view
  return html`<h1>Keys</h1>
<p class="soft">Operator keys open the API and this dashboard. Only their hashes are kept; revoking one ends its sessions at once.</p>
${table({
  caption: keys.length < keyRows ? counted(keys.length, 'key') : newestOf('Keys', keyRows),
  empty: 'There are no keys.',
  rows: keys,
  columns: [
    { name: 'Name', cell: ({ name }) => html`<bdi>${name}</bdi>` },
    { name: 'Role', whole: true, cell: ({ role }) => role },
    { name: 'Made', cell: ({ createdAt }) => time(createdAt, timezone) },
    { name: 'Last used', cell: ({ lastUsedAt }) => time(lastUsedAt, timezone) },
    { name: 'Ends', cell: ({ expiresAt }) => time(expiresAt, timezone) },
    { name: 'Sessions', numeric: true, cell: ({ sessions }) => sessions },
    {
      name: 'Action',
      cell: ({ id, name, revokedAt }) =>
        revokedAt !== null
          ? html`revoked ${time(revokedAt, timezone)}`
          : askButton({ href: `/ops/keys/${id}/revoke`, text: 'Revoke…', about: name }),
    },
  ],
})}
<p class="soft">A new one is made by <code>caretaker keys create --role ROLE --name NAME</code>, which shows it once.</p>`
}
