export { closeFileJournal } from './known-files.ts'
export { type RestoreFilesInput, type RestoreFilesReport, restoreFiles } from './restore-files.ts'
export { planFiles, prefetchFiles, storeFiles } from './store-files.ts'
