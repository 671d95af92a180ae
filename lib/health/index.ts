export { checkAnswer, type HealthAnswer, type HealthJson, healthAnswer, toHealthJson } from './answer.ts'
export { type CauseCode, causes } from './causes.ts'
export { healthJob, planHealth } from './job.ts'
export {
  checkOne,
  type DetailedReport,
  type HealthReport,
  type HealthStatus,
  live,
  ready,
  reportHealth,
  type ServiceHealth,
  serviceHealth,
} from './report.ts'
export type { CheckResult } from './run-check.ts'
