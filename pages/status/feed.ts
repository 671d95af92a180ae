import { createHash } from 'node:crypto'
import type { PublicIncident } from '../../lib/alerts/index.ts'
import { escaped } from '../html.ts'
import { componentName, goesOn, type PublicStatus } from './model.ts'

/** Incidents, newest first, and maintenance that is announced, as an Atom feed: https://www.rfc-editor.org/rfc/rfc4287 */
export function atomFeed(status: PublicStatus): string {
  const entries = [
    ...status.maintenance.filter(({ recurring }) => !recurring).map((one) => maintenanceEntry(status, one)),
    ...status.incidents.map((one) => incidentEntry(status, one)),
  ]
  const updated = entries.map((one) => one.updated.getTime()).reduce((latest, one) => Math.max(latest, one), status.from.getTime())
  return `<?xml version="1.0" encoding="utf-8"?>
<feed xmlns="http://www.w3.org/2005/Atom">
<id>${urn(`feed ${status.base}`)}</id>
<title>${text(`${status.title}: status`)}</title>
<updated>${new Date(updated).toISOString()}</updated>
<author><name>${text(status.title)}</name></author>
<link rel="alternate" type="text/html" href="${text(`${status.base}/status`)}"/>
<link rel="self" type="application/atom+xml" href="${text(`${status.base}/status/feed.atom`)}"/>
${entries.map((one) => one.xml).join('')}</feed>
`
}

interface Entry {
  updated: Date
  xml: string
}

function incidentEntry(status: PublicStatus, incident: PublicIncident): Entry {
  const { id, title, state, startedAt, resolvedAt, partOf, updates, components } = incident
  const named = components.flatMap((check) => componentName(status, check) ?? [])
  const content = [
    ...(named.length === 0 ? [] : [`Affected: ${named.join(', ')}`]),
    ...updates.map(
      (update) => `${update.at.toISOString()} (${goesOn(incident, update) ? 'part of another incident' : update.state}): ${update.body}`,
    ),
  ]
  return entry(status, {
    id: urn(`incident ${id}`),
    title: `${title} (${partOf === null ? state : 'part of another incident'})`,
    published: startedAt,
    updated: new Date(Math.max(startedAt.getTime(), resolvedAt?.getTime() ?? 0, updates[0]?.at.getTime() ?? 0)),
    anchor: `#i${id.slice(0, 8)}`,
    content: content.length === 0 ? [title] : content,
  })
}

function maintenanceEntry(status: PublicStatus, window: PublicStatus['maintenance'][number]): Entry {
  const { id, title, body, startsAt, endsAt, createdAt } = window
  const announced = createdAt ?? startsAt
  return entry(status, {
    id: urn(`maintenance ${id}`),
    title: `Maintenance: ${title}`,
    published: announced,
    updated: announced,
    anchor: '',
    content: [`${startsAt.toISOString()} to ${endsAt.toISOString()}`, ...(body === null ? [] : [body])],
  })
}

function entry(
  status: PublicStatus,
  given: { id: string; title: string; published: Date; updated: Date; anchor: string; content: readonly string[] },
): Entry {
  const { id, title, published, updated, anchor, content } = given
  return {
    updated,
    xml: `<entry>
<id>${id}</id>
<title>${text(title)}</title>
<published>${published.toISOString()}</published>
<updated>${updated.toISOString()}</updated>
<link rel="alternate" type="text/html" href="${text(`${status.base}/status${anchor}`)}"/>
<content type="html">${text(content.map((line) => `<p>${escaped(line)}</p>`).join(''))}</content>
</entry>
`,
  }
}

/** XML 1.0 has no place for control characters, escaped or not. */
function text(content: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is taken out
  return escaped(content.replace(/[\u0000-\u0008\u000b\u000c\u000e-\u001f\ufffe\uffff]/g, ''))
}

/** A name-based UUID: the same for the same thing, whatever the address of the page becomes. */
function urn(of: string): string {
  const hash = createHash('sha256').update(of).digest('hex')
  const variant = ((Number.parseInt(hash.charAt(16), 16) & 3) | 8).toString(16)
  return `urn:uuid:${hash.slice(0, 8)}-${hash.slice(8, 12)}-8${hash.slice(13, 16)}-${variant}${hash.slice(17, 20)}-${hash.slice(20, 32)}`
}
