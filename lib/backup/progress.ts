/** How far a backup or restore is. Sizes of tables are the server's estimate until they are read. */
export interface BackupProgress {
  phase: 'schema' | 'data' | 'sequences' | 'files' | 'seal' | 'check' | 'load' | 'indexes' | 'open' | 'verify'
  /** What is worked on: a table, an object. */
  what: string
  doneBytes: number
  /** 0 where it is not known. */
  totalBytes: number
}

export type OnProgress = (progress: BackupProgress) => void
