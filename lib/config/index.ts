export { byteSize } from './bytes.ts'
export { defineConfig } from './define-config.ts'
export { durationMs } from './duration.ts'
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
  Policy,
  PolicyInput,
  ReindexTarget,
  ReportPeriod,
  ReportPolicy,
  RetentionRule,
  Schedule,
  WebhookHandler,
} from './schema.ts'
export { databaseReport } from './schema.ts'
