import { createHash } from 'node:crypto'
import type { PublicIncident } from '../../lib/alerts/index.ts'
import { canonicalName, type Policy } from '../../lib/config/index.ts'
import {
  type CheckHistory,
  causes,
  type HealthDay,
  type MaintenanceWindow,
  type StatusHistory,
  type Uptime,
} from '../../lib/health/index.ts'
import type { DayState } from '../plot.ts'
import { checkTitle } from './names.ts'

/*
 * What the public may know of how things stand, made of the history, the incidents and the policy: every representation
 * (page, JSON, feed) is a rendering of it. Nothing internal gets past this file.
 */

export type ComponentStatus = 'operational' | 'partial_outage' | 'major_outage' | 'maintenance' | 'unknown'

export interface PublicComponent {
  /** Stable, twelve characters. */
  id: string
  /** The check's canonical name. */
  check: string
  name: string
  group: string | null
  status: ComponentStatus
  /** Why it fails, in words; null where it does not or where the policy keeps it. */
  cause: string | null
  since: Date | null
  days: readonly (HealthDay | null)[]
  states: readonly DayState[]
  uptime: Uptime | null
  /** Of its last look, milliseconds. */
  responseMs: number | null
}

export type Indicator = 'none' | 'minor' | 'major' | 'critical' | 'maintenance' | 'unknown'

export interface PublicStatus {
  title: string
  /** Where the page is, without a slash at the end. */
  base: string
  /** In which times are written. */
  timezone: string
  support: string | null
  now: Date
  /** The first of the days. */
  from: Date
  indicator: Indicator
  /** The one sentence. */
  description: string
  /** False where the database did not answer: there is nothing but what a look just now has found. */
  complete: boolean
  uptime: Uptime | null
  components: readonly PublicComponent[]
  /** Headings in their order; null for what stands in none. */
  groups: readonly (string | null)[]
  /** Checks whose response times are drawn. */
  plots: readonly PublicComponent[]
  /** Newest first. */
  incidents: readonly PublicIncident[]
  /** Of now and the coming days, in the order in which they begin. */
  maintenance: readonly MaintenanceWindow[]
}

/** Whether the update is the end of a part of an incident that goes on: nobody is to read there that it is resolved. */
export function goesOn({ partOf }: PublicIncident, update: PublicIncident['updates'][number]): boolean {
  return partOf !== null && update.state === 'resolved'
}

/** What users of the app hardly notice, and what would tell an attacker where to look. */
const internalKinds: ReadonlySet<string> = new Set([
  'activity',
  'backup',
  'certificate',
  'dns',
  'drill',
  'gdpr',
  'jobs',
  'memory',
  'migrations',
  'pooler',
  'posthog',
  'rls',
  'sentry',
  'webhooks',
])

export function publicStatus(given: {
  policy: Policy
  base: string
  history: StatusHistory
  incidents: readonly PublicIncident[]
  maintenance: readonly MaintenanceWindow[]
  complete: boolean
}): PublicStatus {
  const { policy, base, history, incidents, maintenance, complete } = given
  const page = policy.status
  const names = new Map(Object.entries(page?.names ?? {}).map(([check, name]) => [canonicalName(check), name]))
  const groups = Object.entries(page?.groups ?? {}).map(([name, checks]) => ({ name, checks: checks.map(canonicalName) }))
  const groupOf = (check: string) => groups.find(({ checks }) => checks.includes(check))?.name ?? null
  const shown = chosen(history, page?.checks?.map(canonicalName))
  const components = shown.map((check) =>
    componentOf(check, {
      name: names.get(check.check) ?? checkTitle(check.check),
      group: groupOf(check.check),
      hideCauses: page?.hideCauses === true,
    }),
  )
  const order = [null, ...groups.map(({ name }) => name)].filter((name) => components.some(({ group }) => group === name))
  const visible = new Set(components.map(({ check }) => check))
  const known = incidents.map((incident) => ({ ...incident, components: incident.components.filter((name) => visible.has(name)) }))
  const { indicator, description } = verdict(history, components, known, maintenance)
  return {
    title: page?.title ?? policy.app.name,
    base,
    timezone: policy.app.timezone ?? 'UTC',
    support: page?.support ?? null,
    now: history.now,
    from: history.from,
    indicator,
    description,
    complete,
    uptime: history.whole.uptime,
    components: order.flatMap((group) => components.filter((component) => component.group === group)),
    groups: order,
    plots: plotted(components, shown, page?.plots?.map(canonicalName)),
    incidents: known,
    maintenance: maintenance.map((window) => ({
      ...window,
      components: window.components === 'all' ? 'all' : window.components.filter((name) => visible.has(name)),
    })),
  }
}

/** The name a component has on the page; null for one that is not public. */
export function componentName(status: PublicStatus, check: string): string | null {
  return status.components.find((component) => component.check === check)?.name ?? null
}

/** Those the policy lists, in its order; else what people notice, as far as it was ever configured. */
function chosen(history: StatusHistory, listed: readonly string[] | undefined): CheckHistory[] {
  if (listed !== undefined) return listed.flatMap((name) => history.checks.filter(({ check }) => check === name))
  return history.checks.filter(
    ({ kind, status, uptime }) =>
      !internalKinds.has(kind) && (status !== 'unknown' || (uptime !== null && uptime.atMost - uptime.atLeast < 100)),
  )
}

function componentOf(history: CheckHistory, given: { name: string; group: string | null; hideCauses: boolean }): PublicComponent {
  const { check, critical, status, cause, since, days, uptime, durationMs } = history
  return {
    id: stableId(`component ${check}`),
    check,
    name: given.name,
    group: given.group,
    status: (
      { up: 'operational', down: critical ? 'major_outage' : 'partial_outage', maintenance: 'maintenance', unknown: 'unknown' } as const
    )[status],
    cause: status !== 'down' || given.hideCauses || cause === undefined ? null : (causes[cause]?.words ?? null),
    since,
    days,
    states: days.map(dayState),
    uptime,
    responseMs: status === 'up' ? durationMs : null,
  }
}

/** An hour, or a quarter of what was seen of the day: more than a hiccup. */
const outageSeconds = 3_600

/** One word for a day. A day that was mostly unwatched is unknown, unless something is known to have been wrong. */
export function dayState(day: HealthDay | null): DayState {
  if (day === null) return 'unknown'
  const { up, down, maintenance, unknown } = day
  const watched = up + down + maintenance
  if (watched === 0) return 'unknown'
  if (down >= outageSeconds || down > watched / 4) return 'down'
  if (down > 0) return 'partial'
  if (unknown > watched) return 'unknown'
  return maintenance > 0 ? 'maintenance' : 'up'
}

const impactRank = ['none', 'minor', 'major', 'critical'] as const

function verdict(
  { whole, now }: StatusHistory,
  components: readonly PublicComponent[],
  incidents: readonly PublicIncident[],
  maintenance: readonly MaintenanceWindow[],
): Pick<PublicStatus, 'indicator' | 'description'> {
  const down = components.filter(({ status }) => status === 'partial_outage' || status === 'major_outage')
  const impacts = incidents.filter(({ resolvedAt }) => resolvedAt === null).map(({ impact }) => impactRank.indexOf(impact))
  const seen = whole.status === 'down' || down.some(({ status }) => status === 'major_outage') ? 2 : down.length > 0 ? 1 : 0
  const indicator = impactRank[Math.max(seen, ...impacts, 0)] ?? 'none'
  if (indicator === 'critical') return { indicator, description: 'Critical outage' }
  if (indicator === 'major') return { indicator, description: 'Major outage' }
  if (indicator === 'minor')
    return {
      indicator,
      description:
        down.length === 1 ? `${down[0]?.name} is not working` : down.length > 1 ? 'Some systems are not working' : 'Minor disruption',
    }
  const open = maintenance.some(({ startsAt, endsAt }) => startsAt <= now && now < endsAt)
  if (open || whole.status === 'maintenance' || components.some(({ status }) => status === 'maintenance'))
    return { indicator: 'maintenance', description: 'Maintenance in progress' }
  if (components.length === 0 || components.every(({ status }) => status === 'unknown'))
    return { indicator: 'unknown', description: 'Nothing current is known' }
  if (components.some(({ status }) => status === 'unknown')) return { indicator: 'none', description: 'Everything that is watched works' }
  return { indicator: 'none', description: 'All systems operational' }
}

function plotted(
  components: readonly PublicComponent[],
  histories: readonly CheckHistory[],
  wanted: readonly string[] | undefined,
): PublicComponent[] {
  const named = (names: readonly string[]) => names.flatMap((name) => components.filter(({ check }) => check === name))
  if (wanted !== undefined) return named(wanted)
  const ofKind = (kind: string) => histories.filter((history) => history.kind === kind).map(({ check }) => check)
  const urls = named(ofKind('url')).slice(0, 3)
  return urls.length > 0 ? urls : named(ofKind('database')).slice(0, 1)
}

/** An id that Statuspage's clients take: twelve characters, the same in every answer. */
export function stableId(of: string): string {
  return createHash('sha256').update(of).digest('hex').slice(0, 12)
}
