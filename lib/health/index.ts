export { checkAnswer, type HealthAnswer, type HealthJson, healthAnswer, toHealthJson } from './answer.ts'
export { type CauseCode, causes } from './causes.ts'
export { dependencyTree, remoteChecks } from './dependencies.ts'
export { noteDatabaseLost, recordDatabaseOutage } from './history/database-outage.ts'
export { healthChanges } from './history/health-changes.ts'
export { type HealthObservation, healthNow } from './history/health-now.ts'
export { liveHistory } from './history/live-history.ts'
export type { HealthChange, HistoryStatus } from './history/status.ts'
export { type CheckHistory, type HealthDay, type StatusHistory, statusHistory, type Uptime } from './history/status-history.ts'
export { healthJob, planHealth } from './job.ts'
export {
  checkNamed,
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
export { covered, listMaintenance, type MaintenanceWindow, maintenanceAt } from './windows/list-maintenance.ts'
export { endMaintenance, type MaintenanceInput, scheduleMaintenance } from './windows/schedule-maintenance.ts'
