export { checkInTick } from './check-in.ts'
export { fire } from './fire.ts'
export { netlifySchedule, type Plan, type Platform, plans, platforms, vercelCrons } from './hosts/host-crons.ts'
export { housekeepingJob, type Pruning, planHousekeeping } from './housekeeping.ts'
export type { Job } from './job.ts'
export {
  claimIfIdle,
  claimManually,
  claimSlot,
  findRun,
  lastDone,
  lastRuns,
  listRuns,
  type Run,
  type RunState,
  runStates,
} from './ledger.ts'
export { importPgCron, type PgCronImport } from './pg-cron/import-jobs.ts'
export { policyLines } from './pg-cron/policy-lines.ts'
export { currentSlot, type JobSchedule, nextSlots, resolveSchedule, slotsBetween } from './slots.ts'
export { type TickReport, tick } from './tick.ts'
export { planningTime } from './time.ts'
export { needsTick } from './watch.ts'
export { work } from './worker.ts'
