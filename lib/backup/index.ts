export { type BackupInput, type BackupReport, backupDatabase } from './backup-database.ts'
export {
  type ConfigChange,
  type ConfigDiff,
  type ConfigVersion,
  configVersionJob,
  type Deployment,
  diffConfigVersions,
  listConfigVersions,
  planConfigVersion,
  showConfigVersion,
  type VersionConfigReport,
  versionConfig,
} from './config-versions/index.ts'
export type { Loss } from './coverage.ts'
export { type DrillInput, type DrillReport, drillBackup } from './drill/drill-backup.ts'
export { backupVerifyJob, planBackupVerify } from './drill/job.ts'
export { type ExportInput, type ExportReport, exportBackup } from './export-backup.ts'
export { type RestoreFilesInput, type RestoreFilesReport, restoreFiles } from './files/index.ts'
export {
  type IncrementInput,
  type IncrementReport,
  incrementJob,
  openIncrements,
  type PrunedIncrements,
  planIncrement,
  pruneIncrements,
  type RestoreAtInput,
  type RestoreAtReport,
  restoreAt,
  stopIncrements,
  takeIncrement,
} from './increments/index.ts'
export { backupJob, planBackup } from './job.ts'
export { type IdentityFile, makeIdentityFile } from './keygen.ts'
export { type BackupSummary, listBackups } from './list-backups.ts'
export type { RestoredTable } from './load-tables.ts'
export { lossNow, lossOf, noteLoss } from './loss.ts'
export type { BackupProgress, OnProgress } from './progress.ts'
export { type PruneInput, type PruneReport, pruneBackups } from './prune-backups.ts'
export { type RestoreInput, type RestoreReport, restoreBackup } from './restore-backup.ts'
export { type BackupChoice, connectedDatabase } from './select-backup.ts'
export { assistBackup } from './shared-dump/shared-backup.ts'
export { deriveSigner, type PinnedSigner, pinnedSigners, signerOf } from './signing/index.ts'
export { type VerifyInput, type VerifyReport, verifyBackup } from './verify-backup.ts'
