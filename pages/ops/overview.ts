import type { Incident } from '../../lib/alerts/index.ts'
import type { Loss } from '../../lib/backup/index.ts'
import type { HealthObservation, MaintenanceWindow } from '../../lib/health/index.ts'
import { type Html, html } from '../html.ts'
import { badge, banner, counted, type Tone, table, tile } from '../parts.ts'
import { latencyText, relative, spanText } from '../time.ts'
import { lossSentence } from './backups.ts'
import { daysLeft } from './gdpr.ts'
import { statusOf } from './health.ts'
import { incidentsTable } from './incidents.ts'
import { shareText } from './metrics.ts'
import { type JobRow, runBadge } from './runs.ts'
import type { View } from './shell.ts'

export interface OverviewShown {
  health: readonly HealthObservation[]
  /** The worst first. */
  incidents: readonly Incident[]
  jobs: readonly JobRow[]
  loss: Loss | null
  requests: { open: number; firstDueAt: Date | null }
  deadEvents: number
  deadDeliveries: number
  maintenance: readonly MaintenanceWindow[]
  /** Whom alerts can tell. */
  channels: readonly string[]
  /** Of the last hour; null where nothing was measured. */
  errorRate: number | null
  p95: number | null
}

/** Of the open incidents. */
const incidentRows = 10

/** Everything at a glance; each tile leads to its page. */
export function overviewPage(view: View, shown: OverviewShown): Html {
  const { now, timezone } = view
  const { health, incidents, jobs, loss, requests, deadEvents, deadDeliveries, maintenance, channels, errorRate, p95 } = shown
  const down = health.filter(({ status }) => status === 'down')
  const off = health.filter(({ cause }) => cause === 'not_configured').length
  const unseen = health.filter(({ status, cause }) => status === 'unknown' && cause !== 'not_configured').length
  const failed = jobs.filter(({ last }) => last?.state === 'failed')
  const neverRun = jobs.filter(({ last }) => last === undefined).length
  const days = requests.firstDueAt === null ? null : daysLeft({ dueAt: requests.firstDueAt }, now)
  const dead = deadEvents + deadDeliveries
  const current = maintenance.filter(({ startsAt }) => startsAt <= now)
  const { tone, text } = verdict({
    down,
    unacknowledged: incidents.filter(({ acknowledgedAt }) => acknowledgedAt === null).length,
    incidents,
    failed,
    days,
    dead,
    unseen,
    seen: health.length - off - unseen,
    covered: loss !== null && loss.lostMs !== null,
    channels,
  })
  return html`<h1>Overview</h1>
${banner(tone, text)}
<div class="grid tiles">
${tile({
  title: 'Health',
  href: '/ops/health',
  big: `${health.filter(({ status }) => status === 'up').length} of ${health.length - off} up`,
  note:
    down.length > 0
      ? `down: ${down.map(({ check }) => check).join(', ')}`
      : [...(unseen > 0 ? [`${unseen} not looked at`] : []), ...(off > 0 ? [`${off} not configured`] : [])].join(', ') ||
        'every check passes',
})}
${tile({
  title: 'Open incidents',
  href: '/ops/incidents',
  big: incidents.length,
  note:
    incidents.length === 0
      ? 'nothing is wrong that anybody knows of'
      : counted(incidents.filter(({ acknowledgedAt }) => acknowledgedAt === null).length, 'not acknowledged', 'not acknowledged'),
})}
${tile({
  title: 'Jobs that failed',
  href: '/ops/jobs',
  big: failed.length,
  note:
    failed.length > 0
      ? failed.map(({ name }) => name).join(', ')
      : neverRun > 0
        ? `${counted(jobs.length, 'job')}, ${neverRun} of them not run yet`
        : `${counted(jobs.length, 'job')}, each well the last time`,
})}
${tile({
  title: 'Data at risk (RPO)',
  href: '/ops/backups',
  big: loss === null || loss.lostMs === null ? 'everything' : spanText(loss.lostMs),
  note:
    loss === null || loss.openAgainMs === null
      ? 'no drill has measured a restore yet'
      : `open again in about ${spanText(loss.openAgainMs)} (RTO)`,
})}
${tile({
  title: 'Privacy requests',
  href: '/ops/gdpr',
  big: requests.open,
  note:
    days === null ? 'none is open' : days < 0 ? `one is ${counted(-days, 'day')} overdue` : `the first is due in ${counted(days, 'day')}`,
})}
${tile({
  title: 'Dead letters',
  href: '/ops/webhooks',
  big: dead,
  note:
    dead === 0
      ? 'every event was applied, every message delivered'
      : `${counted(deadEvents, 'event')}, ${counted(deadDeliveries, 'message')}`,
})}
${tile({
  title: 'Response time (p95)',
  href: '/ops/metrics',
  big: p95 === null ? 'no data' : latencyText(p95 * 1_000),
  note: errorRate === null ? 'nothing was measured in the last hour' : `${shareText(errorRate)} of the last hour’s requests failed`,
})}
${tile({
  title: 'Maintenance',
  href: '/ops/maintenance',
  big: current.length > 0 ? 'now' : maintenance.length > 0 ? relative(maintenance[0]?.startsAt, now, timezone) : 'none',
  note: current[0]?.title ?? maintenance[0]?.title ?? 'none is planned for the next seven days',
})}
</div>
${incidents.length > 0 && html`<h2>Open incidents</h2>${incidentsTable(view, { caption: incidents.length > incidentRows ? `Worst first: ${incidentRows} of ${incidents.length}` : 'Worst first', empty: '', rows: incidents.slice(0, incidentRows) })}${incidents.length > incidentRows && html`<p><a href="/ops/incidents">All of them</a></p>`}`}
${
  down.length > 0 &&
  html`<h2>Down</h2>${table({
    caption: 'Checks that fail',
    empty: '',
    rows: down,
    columns: [
      { name: 'Check', cell: ({ check }) => check },
      { name: 'Status', cell: statusOf },
      { name: 'Since', cell: ({ since }) => relative(since, now, timezone) },
      { name: 'Critical', cell: ({ critical }) => (critical ? badge('bad', 'critical') : 'no') },
    ],
  })}`
}
${
  failed.length > 0 &&
  html`<h2>Jobs that failed</h2>${table({
    caption: 'Whose last run failed',
    empty: '',
    rows: failed,
    columns: [
      { name: 'Job', cell: ({ name }) => html`<a href="/ops/runs?job=${name}">${name}</a>` },
      { name: 'Last run', cell: ({ last }) => last !== undefined && html`${runBadge(last.state)} ${relative(last.slot, now, timezone)}` },
      { name: 'Next run', cell: ({ next }) => relative(next, now, timezone, 'when work waits') },
    ],
  })}`
}
<h2>Recovery</h2>
<p>${lossSentence(loss)}</p>`
}

/** The one sentence: the worst first. */
function verdict(of: {
  down: readonly HealthObservation[]
  unacknowledged: number
  incidents: readonly Incident[]
  failed: readonly JobRow[]
  days: number | null
  dead: number
  /** Configured checks that nobody has looked at lately, and those that somebody has. */
  unseen: number
  seen: number
  /** There is a backup to count on. */
  covered: boolean
  channels: readonly string[]
}): { tone: Tone; text: string } {
  const critical = of.down.filter((one) => one.critical)
  if (critical.length > 0) return { tone: 'bad', text: `Down: ${critical.map(({ check }) => check).join(', ')}.` }
  if (of.unacknowledged > 0) return { tone: 'bad', text: `${counted(of.unacknowledged, 'incident')} that nobody has acknowledged.` }
  if (of.days !== null && of.days < 0) return { tone: 'bad', text: 'A privacy request is overdue.' }
  if (of.down.length > 0) return { tone: 'warn', text: `Degraded: ${of.down.map(({ check }) => check).join(', ')}.` }
  if (of.incidents.length > 0) return { tone: 'warn', text: `${counted(of.incidents.length, 'incident')} being worked on.` }
  // What is not known, what could not be brought back, and what nobody would hear of is not well, either.
  const parts = [
    ...(of.unseen > 0 && of.seen > 0 ? [`${counted(of.unseen, 'check')} not looked at lately`] : []),
    ...(of.failed.length > 0 ? [`${counted(of.failed.length, 'job')} failed the last time`] : []),
    ...(of.dead > 0 ? [counted(of.dead, 'dead letter')] : []),
    ...(of.covered ? [] : ['no backup to count on']),
    ...(of.channels.length > 0 ? [] : ['no channel on which anybody would be told of an outage']),
  ]
  const said = parts.length < 2 ? parts.join('') : `${parts.slice(0, -1).join(', ')} and ${parts.at(-1)}`
  if (of.seen === 0)
    return { tone: 'warn', text: `Nothing current is known: no check was looked at lately${said === '' ? '' : `; and ${said}`}.` }
  return parts.length > 0 ? { tone: 'warn', text: `Up, but ${said}.` } : { tone: 'ok', text: 'Everything is well.' }
}
