export { byteSize } from './bytes.ts'
export { defineConfig } from './define-config.ts'
export { durationMs, isDuration } from './duration.ts'
export { nearest } from './nearest.ts'
export type {
  AppContext,
  AppJobFunction,
  AppJobResult,
  AppRun,
  CallPolicy,
  HealthCheckPolicy,
  JobStep,
  JsonValue,
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
export { databaseReport, onStripe } from './schema.ts'
