import * as z from 'zod/mini'
import { alerts, referencesOfAlerts } from './schema/alerts.ts'
import { backup } from './schema/backup.ts'
import { gdpr } from './schema/gdpr.ts'
import { health } from './schema/health.ts'
import { history } from './schema/history.ts'
import { referencesOfIncidents } from './schema/incident-references.ts'
import { incidents } from './schema/incidents.ts'
import { job } from './schema/jobs.ts'
import { metrics } from './schema/metrics.ts'
import { line, name, tables, url, zone } from './schema/primitives.ts'
import { referencesOfJobs } from './schema/references.ts'
import { reports } from './schema/reports.ts'
import { retentionBudget, retentionLimits, retentionRule } from './schema/retention.ts'
import { schedule } from './schema/schedules.ts'
import { referencesOfStatus, status } from './schema/status.ts'
import { webhooks } from './schema/webhooks.ts'

/*
 * The policy's schema, a part a file. Objects are strict: a key that is not known is an error that names the nearest known one.
 * Only `app.name` is required; a part that is absent is off.
 */

const parts = z.strictObject({
  app: z.strictObject({ name: line(100), url: z.optional(url), timezone: z.optional(zone) }),
  health: z.optional(health),
  maintenance: z.optional(
    z.strictObject({
      vacuum: z.optional(tables),
      reindex: z.optional(z.array(name)),
      refresh: z.optional(tables),
      /** Of each retention rule that names none itself. */
      budget: z.optional(retentionBudget),
      limits: z.optional(retentionLimits),
    }),
  ),
  retention: z.optional(z.array(retentionRule)),
  /** Jobs of the app's own, by name. */
  jobs: z.optional(z.record(z.string(), job)),
  /** When built-in jobs run, where not at their default. `false` turns one off. */
  schedules: z.optional(z.record(z.string(), z.union([schedule, z.literal(false)]))),
  history: z.optional(history),
  backup: z.optional(backup),
  gdpr: z.optional(gdpr),
  webhooks: z.optional(webhooks),
  alerts: z.optional(alerts),
  incidents: z.optional(incidents),
  /** Queries whose answers are kept in a table or sent as files, by name. */
  reports: z.optional(reports),
  metrics: z.optional(metrics),
  status: z.optional(status),
})

export const policySchema = parts.check((policy) => {
  policy.issues.push(
    ...[
      ...referencesOfJobs(policy.value),
      ...referencesOfIncidents(policy.value),
      ...referencesOfAlerts(policy.value),
      ...referencesOfStatus(policy.value),
    ].map((issue) => ({
      code: 'custom' as const,
      ...issue,
    })),
  )
})

/** A policy as written in caretaker.config.ts. */
export type PolicyInput = z.input<typeof policySchema>
/** A policy that satisfied the schema. */
export type Policy = z.output<typeof policySchema>
export type { AlertChannelPolicy, AlertOverride, AlertRule } from './schema/alerts.ts'
export { alertRule } from './schema/alerts.ts'
export { issuesOfFigure } from './schema/figure-references.ts'
export type { ProcessorPolicy } from './schema/gdpr.ts'
export type { HealthCheckPolicy, MaintenancePolicy } from './schema/health.ts'
export type { SeverityPolicy } from './schema/incidents.ts'
export type {
  AppContext,
  AppJobFunction,
  AppJobResult,
  AppRun,
  CallPolicy,
  JobStep,
  JsonValue,
  ReindexTarget,
} from './schema/jobs.ts'
export type { DashboardFigure, GaugePolicy } from './schema/metrics.ts'
export { databaseReport, type ReportPeriod, type ReportPolicy } from './schema/reports.ts'
export type { RetentionBudget, RetentionChild, RetentionLimits, RetentionRule } from './schema/retention.ts'
export type { MissedPolicy, Schedule } from './schema/schedules.ts'
export type {
  OutgoingEvent,
  StripeHandlers,
  StripeMirrorTable,
  SubscriberPolicy,
  TwilioLanguage,
  TwilioReplies,
  WebhookDelivery,
  WebhookEvent,
  WebhookHandler,
  WebhookSourcePolicy,
} from './schema/webhooks.ts'
export { onStripe } from './schema/webhooks.ts'
