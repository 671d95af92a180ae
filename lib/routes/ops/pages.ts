import { alertsPage, notificationRows } from '../../../pages/ops/alerts.ts'
import { auditPage, keysPage } from '../../../pages/ops/audit.ts'
import { backupsPage } from '../../../pages/ops/backups.ts'
import { gdprPage, gdprRequestPage } from '../../../pages/ops/gdpr.ts'
import { healthMeasuresPage, healthPage } from '../../../pages/ops/health.ts'
import { eventRows, incidentPage, incidentsPage, openIncidentRows, worstFirst } from '../../../pages/ops/incidents.ts'
import { maintenancePage } from '../../../pages/ops/maintenance.ts'
import { metricsPage, type Range, ranges } from '../../../pages/ops/metrics.ts'
import { overviewPage } from '../../../pages/ops/overview.ts'
import { type JobRow, jobsPage, runPage, runsPage } from '../../../pages/ops/runs.ts'
import { admins, builders, everyone } from '../../../pages/ops/shell.ts'
import { letterRows, webhooksPage } from '../../../pages/ops/webhooks.ts'
import { alertSources } from '../../alert-sources.ts'
import {
  channelNames,
  describeEvent,
  listAlerts,
  listIncidents,
  listNotifications,
  listRules,
  listSilences,
  postmortem,
  severityMatrix,
  showIncidentPart,
  showMatchers,
} from '../../alerts/index.ts'
// Queries alone: the rest of backups weighs what a worker's bundle weighs.
import { readCoverage } from '../../backup/coverage.ts'
import { pinnedSigners } from '../../backup/signing/pinned-signers.ts'
import { jobs } from '../../catalog.ts'
import { countOpenRequests, getRequest, listRequests } from '../../gdpr/requests/request.ts'
import { healthChanges, healthNow, listMaintenance, reportHealth } from '../../health/index.ts'
import { listKeys, type Route } from '../../http/index.ts'
import { findRun, lastRuns, listRuns, nextSlots, runStates } from '../../jobs/index.ts'
import { listAudit } from '../../platform/audit.ts'
import type { Context } from '../../platform/context.ts'
import { CaretakerError } from '../../platform/errors.ts'
import { countDeadLetters, listDeliveries, listInbox, webhookFigures } from '../../webhooks/index.ts'
import { download, type PageRoute, page } from './page.ts'

const hourMs = 3_600_000
const dayMs = 24 * hourMs
const auditRows = 50
const incidentRows = 50
const runRows = 100

/** The windows that the page of maintenance shows. */
export function maintenanceShown(now: Date): { from: Date; to: Date } {
  return { from: new Date(now.getTime() - 7 * dayMs), to: new Date(now.getTime() + 366 * dayMs) }
}

/** What an operator sees in a browser. */
export const pages = (): PageRoute[] => [
  page({
    path: '/ops',
    summary: 'Everything at a glance',
    roles: everyone,
    async show(ctx, view) {
      const { measureOne } = await import('../../metrics/index.ts')
      const { now } = view
      const [health, incidents, rows, loss, requests, dead, maintenance, errors, p95] = await Promise.all([
        healthNow(ctx),
        listIncidents(ctx, { state: 'open', limit: openIncidentRows }),
        jobRows(ctx, now),
        readCoverage(ctx.db, now),
        countOpenRequests(ctx),
        countDeadLetters(ctx),
        listMaintenance(ctx, { from: now, to: new Date(now.getTime() + 7 * dayMs) }),
        measureOne(ctx, { metric: 'http.error_rate', overSeconds: 3_600 }, now),
        measureOne(ctx, { metric: 'http.p95', overSeconds: 3_600 }, now),
      ])
      return {
        title: 'Overview',
        main: overviewPage(view, {
          health,
          incidents: worstFirst(incidents, severityMatrix(ctx.config)),
          jobs: rows,
          loss,
          requests,
          deadEvents: dead.events,
          deadDeliveries: dead.messages,
          maintenance,
          channels: channelNames(ctx),
          errorRate: errors.value,
          p95: p95.value,
        }),
      }
    },
  }),
  page({
    path: '/ops/health',
    summary: 'How every check stands, and what has changed',
    roles: everyone,
    async show(ctx, view) {
      const from = new Date(view.now.getTime() - 48 * hourMs)
      const [now, changes] = await Promise.all([healthNow(ctx), healthChanges(ctx, { from, to: view.now })])
      const recent = changes.filter(({ at, check }) => at >= from && check !== '').sort((a, b) => b.at.getTime() - a.at.getTime())
      return { title: 'Health', main: healthPage(view, { now, changes: recent }) }
    },
  }),
  page({
    path: '/ops/health/now',
    summary: 'Every check with its measures, looked at now',
    current: '/ops/health',
    roles: everyone,
    async show(ctx, view) {
      const { results } = await reportHealth(ctx)
      return { title: 'Health, looked at now', main: healthMeasuresPage(view, results) }
    },
  }),
  page({
    path: '/ops/maintenance',
    summary: 'Maintenance windows',
    roles: everyone,
    async show(ctx, view) {
      const [windows, checks] = await Promise.all([listMaintenance(ctx, maintenanceShown(view.now)), healthNow(ctx)])
      return { title: 'Maintenance', main: maintenancePage(view, { windows, checks: checks.map(({ check }) => check) }) }
    },
  }),
  page({
    path: '/ops/incidents',
    summary: 'Incidents, open and resolved',
    roles: everyone,
    async show(ctx, view, { query }) {
      const before = whole(query.before)
      const [open, resolved] = await Promise.all([
        listIncidents(ctx, { state: 'open', limit: openIncidentRows }),
        listIncidents(ctx, { state: 'resolved', limit: incidentRows, ...(before === undefined ? {} : { before }) }),
      ])
      const older = resolved.length < incidentRows ? null : (resolved.at(-1)?.number ?? null)
      return { title: 'Incidents', main: incidentsPage(view, { open, resolved, older, severities: severityMatrix(ctx.config) }) }
    },
  }),
  page({
    path: '/ops/incidents/:incident',
    summary: 'One incident: alerts, checklist, timeline, and what can be done',
    current: '/ops/incidents',
    roles: everyone,
    async show(ctx, view, { params, query }) {
      const before = whole(query.before)?.toString()
      const detail = await showIncidentPart(ctx, params.incident as string, { events: eventRows, before })
      const notifications = await listNotifications(ctx, { incident: detail.incident.id, limit: notificationRows })
      return {
        title: `Incident ${detail.incident.number}`,
        main: incidentPage(view, { ...detail, notifications, severities: severityMatrix(ctx.config), describe: describeEvent }),
      }
    },
  }),
  page({
    path: '/ops/alerts',
    summary: 'What holds, what is silenced, and what people were told',
    roles: everyone,
    async show(ctx, view, { query }) {
      const [alerts, silences, notifications, rules] = await Promise.all([
        listAlerts(ctx, { resolvedHours: 24 }),
        listSilences(ctx),
        listNotifications(ctx, { limit: notificationRows }),
        listRules(ctx, alertSources),
      ])
      const main = alertsPage(view, {
        alerts,
        silences: silences.map((one) => ({ ...one, matcher: showMatchers(one.matchers) })),
        notifications,
        channels: channelNames(ctx),
        rules,
        matcher: query.matcher?.slice(0, 500) ?? '',
      })
      return { title: 'Alerts', main }
    },
  }),
  page({
    path: '/ops/metrics',
    summary: 'Response times, errors and requests over time',
    roles: everyone,
    async show(ctx, view, { query }) {
      const { measureSeries, performanceReport } = await import('../../metrics/index.ts')
      const range: Range = query.range === 'day' || query.range === 'week' ? query.range : 'hour'
      const { hours, stepSeconds, overSeconds } = ranges[range]
      // Whole steps, so that a page that is loaded again shows the same points.
      const to = new Date(Math.floor(view.now.getTime() / (stepSeconds * 1_000)) * stepSeconds * 1_000)
      const from = new Date(to.getTime() - hours * hourMs)
      const of = (metric: string, stat?: 'per_second') =>
        measureSeries(ctx, { metric, overSeconds, ...(stat === undefined ? {} : { stat }) }, { from, to, stepSeconds })
      const [p50, p95, p99, errors, rate, { routes }] = await Promise.all([
        of('http.p50'),
        of('http.p95'),
        of('http.p99'),
        of('http.error_rate'),
        of('http.requests', 'per_second'),
        performanceReport(ctx, { from, to }),
      ])
      return {
        title: 'Metrics',
        main: metricsPage(view, { range, from, to, series: { p50, p95, p99, errors, rate }, routes }),
      }
    },
  }),
  page({
    path: '/ops/jobs',
    summary: 'Every job with its last and next run',
    roles: everyone,
    async show(ctx, view) {
      const [rows, recent] = await Promise.all([jobRows(ctx, view.now), listRuns(ctx, { limit: 20 })])
      return { title: 'Jobs', main: jobsPage(view, rows, recent) }
    },
  }),
  page({
    path: '/ops/runs',
    summary: 'The newest runs, of all jobs or one',
    current: '/ops/jobs',
    roles: everyone,
    async show(ctx, view, { query }) {
      const state = runStates.find((one) => one === query.state)
      const job = query.job === '' ? undefined : query.job?.slice(0, 63)
      const before = query.before !== undefined && isUuid(query.before) ? query.before : undefined
      const runs = await listRuns(ctx, {
        limit: runRows + 1,
        ...(job === undefined ? {} : { job }),
        ...(state === undefined ? {} : { state }),
        ...(before === undefined ? {} : { before }),
      })
      const older = runs.length > runRows ? (runs[runRows - 1]?.id ?? null) : null
      return { title: 'Runs', main: runsPage(view, runs.slice(0, runRows), { job, state, older }) }
    },
  }),
  page({
    path: '/ops/runs/:run',
    summary: 'One run with its result or its error',
    current: '/ops/jobs',
    roles: everyone,
    async show(ctx, view, { params }) {
      const id = params.run as string
      const run = isUuid(id) ? await findRun(ctx.db, id) : null
      if (run === null) throw new CaretakerError('not_found', 'There is no run of that id.')
      return { title: `Run of ${run.job}`, main: runPage(view, run) }
    },
  }),
  page({
    path: '/ops/backups',
    summary: 'What would be lost if the database died now; backups and drills',
    roles: everyone,
    async show(ctx, view) {
      const of = (job: string) => listRuns(ctx, { job, limit: 10 })
      const [loss, signers, backups, drills, increments] = await Promise.all([
        readCoverage(ctx.db, view.now),
        pinnedSigners(ctx.db),
        of('backup'),
        of('backup-verify'),
        of('backup-increment'),
      ])
      const known = jobs(ctx.config).map(({ name }) => name)
      return { title: 'Backups', main: backupsPage(view, { loss, signers, backups, drills, increments, jobs: known }) }
    },
  }),
  page({
    path: '/ops/webhooks',
    summary: 'Events and messages: what waits, what is dead, and the way to replay it',
    roles: everyone,
    async show(ctx, view) {
      const [figures, deadEvents, deadDeliveries, newest, newestDeliveries] = await Promise.all([
        webhookFigures(ctx),
        listInbox(ctx, { state: 'dead', limit: 50 }),
        listDeliveries(ctx, { state: 'dead', limit: 50 }),
        listInbox(ctx, { limit: letterRows }),
        listDeliveries(ctx, { limit: letterRows }),
      ])
      return { title: 'Webhooks', main: webhooksPage(view, { figures, deadEvents, deadDeliveries, newest, newestDeliveries }) }
    },
  }),
  page({
    path: '/ops/gdpr',
    summary: 'Privacy requests with the days that are left',
    roles: everyone,
    show: async (ctx, view) => ({ title: 'Privacy requests', main: gdprPage(view, await listRequests(ctx)) }),
  }),
  page({
    path: '/ops/gdpr/:request',
    summary: 'One privacy request, and what is to be decided of it',
    current: '/ops/gdpr',
    roles: everyone,
    async show(ctx, view, { params }) {
      const request = await getRequest(ctx, params.request as string)
      return { title: `${request.kind} request`, main: gdprRequestPage(view, request) }
    },
  }),
  page({
    path: '/ops/audit',
    summary: 'Who did what',
    roles: builders,
    async show(ctx, view, { query }) {
      const before = whole(query.before)
      const action = query.action?.slice(0, 80) ?? ''
      const rows = await listAudit(ctx.db, {
        limit: auditRows,
        ...(before === undefined ? {} : { before }),
        ...(action === '' ? {} : { action }),
      })
      const older = rows.length < auditRows ? null : (rows.at(-1)?.seq ?? null)
      return { title: 'Audit trail', main: auditPage(view, { rows, action, older }) }
    },
  }),
  page({
    path: '/ops/keys',
    summary: 'Operator keys',
    roles: admins,
    show: async (ctx, view) => ({ title: 'Keys', main: keysPage(view, await listKeys(ctx)) }),
  }),
  // Whatever else is asked for below /ops is told of as a page, too.
  ...['/ops/:a', '/ops/:a/:b', '/ops/:a/:b/:c', '/ops/:a/:b/:c/:d'].map((path) =>
    page({
      path,
      summary: 'Nothing is there',
      roles: everyone,
      show: () => Promise.reject(new CaretakerError('not_found', 'There is no such page.')),
    }),
  ),
]

/** What an operator takes away. */
export const downloads = (): Route[] => [
  download({
    path: '/ops/incidents/:incident/postmortem.md',
    summary: 'A post-mortem as Markdown, filled in from the timeline',
    roles: everyone,
    mediaType: 'text/markdown; charset=utf-8',
    fileName: 'postmortem.md',
    text: (ctx, { incident }) => postmortem(ctx, incident as string),
  }),
]

async function jobRows(ctx: Context, now: Date): Promise<JobRow[]> {
  const all = jobs(ctx.config)
  const last = await lastRuns(
    ctx,
    all.map(({ name }) => name),
  )
  return all.map(({ name, description, schedule }) => ({
    name,
    description,
    schedule,
    next: schedule === null ? null : (nextSlots(schedule, now, 1)[0] ?? null),
    last: last.get(name),
  }))
}

function whole(text: string | undefined): number | undefined {
  return text !== undefined && /^[1-9]\d{0,8}$/.test(text) ? Number(text) : undefined
}

function isUuid(text: string): boolean {
  return /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i.test(text)
}
