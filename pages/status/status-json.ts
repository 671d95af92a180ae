import { type PublicStatus, stableId } from './model.ts'

/** `/status.json`: what the page shows, for programs. Days are those of UTC, oldest first; null where nothing is known. */
export function statusJson(status: PublicStatus): Record<string, unknown> {
  return {
    title: status.title,
    url: `${status.base}/status`,
    updatedAt: status.now.toISOString(),
    status: { indicator: status.indicator, description: status.description },
    uptime: status.uptime,
    components: status.components.map(({ id, check, name, group, status: state, cause, since, uptime, responseMs, days }) => ({
      id,
      check,
      name,
      group,
      status: state,
      cause,
      since: since?.toISOString() ?? null,
      responseMs,
      uptime,
      days: { from: status.from.toISOString().slice(0, 10), list: days },
    })),
    incidents: status.incidents.map(({ id, updates, partOf, ...incident }) => ({
      id: stableId(`incident ${id}`),
      ...incident,
      partOf: partOf === null ? null : stableId(`incident ${partOf}`),
      updates: updates.map((update) => ({ ...update, id: stableId(`update ${update.id}`) })),
    })),
    maintenance: status.maintenance.map(({ id, title, body, components, startsAt, endsAt }) => ({
      id: stableId(`maintenance ${id}`),
      title,
      body,
      components,
      startsAt: startsAt.toISOString(),
      endsAt: endsAt.toISOString(),
    })),
  }
}
