export type { Deployment } from './content.ts'
export { type ConfigChange, type ConfigDiff, diffConfigVersions } from './diff-config.ts'
export { type ConfigVersion, listConfigVersions, showConfigVersion } from './stored.ts'
export { configVersionJob, planConfigVersion, type VersionConfigReport, versionConfig } from './version-config.ts'
