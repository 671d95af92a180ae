import type { Context } from '../platform/context.ts'
import { hasCode } from '../platform/errors.ts'
import { readDrillRecords } from './drill/records.ts'
import { listBackupIds, readManifest } from './manifest.ts'

export interface BackupSummary {
  id: string
  createdAt: string
  app: string
  database: string
  serverVersion: string
  encrypted: boolean
  tables: number
  rows: number
  storedBytes: number
  /** Its last restore drill; absent where there was none. */
  proven?: { at: string; proven: boolean; restoreMs: number }
  /** Why the manifest cannot be trusted; absent for a sound one. The other figures are then empty. */
  problem?: string
}

/** The backups in the store, newest first. One whose manifest was damaged is listed with its problem, never left out. */
export async function listBackups(ctx: Pick<Context, 'objects'>): Promise<BackupSummary[]> {
  const store = await ctx.objects()
  const drills = await readDrillRecords(store)
  const summaries: BackupSummary[] = []
  for (const id of (await listBackupIds(store)).reverse()) {
    try {
      const manifest = await readManifest(store, id)
      const drill = drills.get(id)
      summaries.push({
        id,
        createdAt: manifest.createdAt,
        app: manifest.app,
        database: manifest.database.name,
        serverVersion: manifest.database.serverVersion,
        encrypted: manifest.encryption.kind === 'age',
        tables: manifest.tables.length,
        rows: manifest.tables.reduce((sum, table) => sum + table.rows, 0),
        storedBytes: manifest.objects.reduce((sum, object) => sum + object.bytes, 0),
        ...(drill === undefined ? {} : { proven: { at: drill.at, proven: drill.proven, restoreMs: drill.restoreMs } }),
      })
    } catch (error) {
      if (!hasCode(error, 'backup_corrupt')) throw error
      summaries.push({
        id,
        createdAt: '',
        app: '',
        database: '',
        serverVersion: '',
        encrypted: false,
        tables: 0,
        rows: 0,
        storedBytes: 0,
        problem: error.detail,
      })
    }
  }
  return summaries
}
