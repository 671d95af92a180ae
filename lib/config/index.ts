export { byteSize } from './bytes.ts'
export { canonicalName } from './check-name.ts'
export { defineConfig } from './define-config.ts'
export { durationMs, isDuration } from './duration.ts'
export { nearest } from './nearest.ts'
export type {
  AlertChannelPolicy,
  AlertOverride,
  AlertRule,
  AppContext,
  AppJobFunction,
  AppJobResult,
  AppRun,
  CallPolicy,
  HealthCheckPolicy,
  JobStep,
  JsonValue,
  MaintenancePolicy,
  MissedPolicy,
  OutgoingEvent,
  Policy,
  PolicyInput,
  ProcessorPolicy,
  ReindexTarget,
  ReportPeriod,
  ReportPolicy,
  RetentionBudget,
  RetentionChild,
  RetentionLimits,
  RetentionRule,
  Schedule,
  SeverityPolicy,
  StripeHandlers,
  StripeMirrorTable,
  SubscriberPolicy,
  TwilioLanguage,
  TwilioReplies,
  WebhookDelivery,
  WebhookEvent,
  WebhookHandler,
  WebhookSourcePolicy,
} from './schema.ts'
export { alertRule, databaseReport, onStripe } from './schema.ts'
