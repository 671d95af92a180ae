import type { PublicIncident } from '../../lib/alerts/index.ts'
import type { MaintenanceWindow } from '../../lib/health/index.ts'
import { type PublicComponent, type PublicStatus, stableId } from './model.ts'

/*
 * The documents under /api/v2 as Atlassian's Statuspage answers them, for the clients there are.
 * https://www.atlassianstatuspage.com/api (v2, public)
 */

/** Statuspage knows no "unknown": what nobody watches is never said to be operational. */
const componentStatus = {
  operational: 'operational',
  partial_outage: 'partial_outage',
  major_outage: 'major_outage',
  maintenance: 'under_maintenance',
  unknown: 'degraded_performance',
} as const

function page(status: PublicStatus) {
  return {
    id: stableId(`page ${status.title}`),
    name: status.title,
    url: `${status.base}/status`,
    time_zone: status.timezone === 'UTC' ? 'Etc/UTC' : status.timezone,
    updated_at: status.now.toISOString(),
  }
}

function overall(status: PublicStatus) {
  // Statuspage has no word for this, and it is not "none".
  const indicator = status.indicator === 'unknown' ? 'minor' : status.indicator
  return { indicator, description: status.description }
}

function component(status: PublicStatus, one: PublicComponent, position: number) {
  const first = one.days.findIndex((day) => day !== null)
  const start = new Date(status.from.getTime() + Math.max(first, 0) * 86_400_000)
  return {
    id: one.id,
    name: one.name,
    status: componentStatus[one.status],
    created_at: start.toISOString(),
    updated_at: (one.since ?? status.now).toISOString(),
    position,
    description: null,
    showcase: true,
    start_date: start.toISOString().slice(0, 10),
    group_id: one.group === null ? null : stableId(`group ${one.group}`),
    page_id: stableId(`page ${status.title}`),
    group: false,
    only_show_if_degraded: false,
  }
}

function components(status: PublicStatus) {
  const pageId = stableId(`page ${status.title}`)
  const groups = status.groups.flatMap((group, position) => {
    if (group === null) return []
    const members = status.components.filter((one) => one.group === group)
    const worst = (['major_outage', 'partial_outage', 'maintenance', 'unknown', 'operational'] as const).find((wanted) =>
      members.some((one) => one.status === wanted),
    )
    return [
      {
        id: stableId(`group ${group}`),
        name: group,
        status: componentStatus[worst ?? 'operational'],
        created_at: status.from.toISOString(),
        updated_at: status.now.toISOString(),
        position: position + 1,
        description: null,
        showcase: false,
        start_date: null,
        group_id: null,
        page_id: pageId,
        group: true,
        only_show_if_degraded: false,
        components: members.map(({ id }) => id),
      },
    ]
  })
  return [...status.components.map((one, index) => component(status, one, index + 1)), ...groups]
}

/** References to components within an incident: Statuspage repeats them whole. */
function affected(status: PublicStatus, checks: readonly string[] | 'all') {
  return status.components.flatMap((one, index) =>
    checks === 'all' || checks.includes(one.check) ? [component(status, one, index + 1)] : [],
  )
}

function incident(status: PublicStatus, one: PublicIncident) {
  const at = (date: Date | null) => date?.toISOString() ?? null
  return {
    id: stableId(`incident ${one.id}`),
    name: one.title,
    status: one.state,
    created_at: at(one.startedAt),
    updated_at: at(one.updates[0]?.at ?? one.resolvedAt ?? one.startedAt),
    monitoring_at: at(one.updates.find(({ state }) => state === 'monitoring')?.at ?? null),
    resolved_at: at(one.resolvedAt),
    impact: one.impact,
    shortlink: `${status.base}/status#i${one.id.slice(0, 8)}`,
    started_at: at(one.startedAt),
    page_id: stableId(`page ${status.title}`),
    incident_updates: one.updates.map((update) => ({
      id: stableId(`update ${update.id}`),
      status: update.state,
      body: update.body,
      incident_id: stableId(`incident ${one.id}`),
      created_at: at(update.at),
      updated_at: at(update.at),
      display_at: at(update.at),
      affected_components: null,
      deliver_notifications: false,
      custom_tweet: null,
      tweet_id: null,
    })),
    components: affected(status, one.components),
    reminder_intervals: null,
  }
}

function maintenance(status: PublicStatus, one: MaintenanceWindow) {
  const id = stableId(`maintenance ${one.id}`)
  const state = one.startsAt <= status.now ? 'in_progress' : 'scheduled'
  const announced = (one.createdAt ?? one.startsAt).toISOString()
  return {
    id,
    name: one.title,
    status: state,
    created_at: announced,
    updated_at: announced,
    monitoring_at: null,
    resolved_at: null,
    impact: 'maintenance',
    shortlink: `${status.base}/status`,
    started_at: one.startsAt.toISOString(),
    page_id: stableId(`page ${status.title}`),
    incident_updates:
      one.body === null
        ? []
        : [
            {
              id: stableId(`update of ${one.id}`),
              status: state,
              body: one.body,
              incident_id: id,
              created_at: announced,
              updated_at: announced,
              display_at: announced,
              affected_components: null,
              deliver_notifications: false,
              custom_tweet: null,
              tweet_id: null,
            },
          ],
    components: affected(status, one.components),
    scheduled_for: one.startsAt.toISOString(),
    scheduled_until: one.endsAt.toISOString(),
    reminder_intervals: null,
  }
}

const open = (status: PublicStatus) => status.incidents.filter(({ resolvedAt }) => resolvedAt === null).map((one) => incident(status, one))
const scheduled = (status: PublicStatus) => status.maintenance.map((one) => maintenance(status, one))

/** What stands under each path of /api/v2. */
export const statuspageDocuments: Record<string, (status: PublicStatus) => Record<string, unknown>> = {
  'summary.json': (status) => ({
    page: page(status),
    components: components(status),
    incidents: open(status),
    scheduled_maintenances: scheduled(status),
    status: overall(status),
  }),
  'status.json': (status) => ({ page: page(status), status: overall(status) }),
  'components.json': (status) => ({ page: page(status), components: components(status) }),
  'incidents.json': (status) => ({ page: page(status), incidents: status.incidents.map((one) => incident(status, one)) }),
  'incidents/unresolved.json': (status) => ({ page: page(status), incidents: open(status) }),
  'scheduled-maintenances.json': (status) => ({ page: page(status), scheduled_maintenances: scheduled(status) }),
  'scheduled-maintenances/active.json': (status) => ({
    page: page(status),
    scheduled_maintenances: status.maintenance.filter(({ startsAt }) => startsAt <= status.now).map((one) => maintenance(status, one)),
  }),
  'scheduled-maintenances/upcoming.json': (status) => ({
    page: page(status),
    scheduled_maintenances: status.maintenance.filter(({ startsAt }) => startsAt > status.now).map((one) => maintenance(status, one)),
  }),
}
