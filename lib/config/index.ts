export { byteSize } from './bytes.ts'
export { defineConfig } from './define-config.ts'
export { durationMs } from './duration.ts'
export { nearest } from './nearest.ts'
export type {
  HealthCheckPolicy,
  JobStep,
  MissedPolicy,
  Policy,
  PolicyInput,
  RetentionRule,
  Schedule,
  WebhookHandler,
} from './schema.ts'
