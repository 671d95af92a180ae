export { closeFileJournal } from './known-files.ts'
export { type PrefetchInput, prefetchFiles, type StoredFiles, type StoreFilesInput, storeFiles } from './store-files.ts'
