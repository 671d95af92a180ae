import type { Context } from '../platform/context.ts'
import { readDrillRecords } from './drill/records.ts'
import { findBackups } from './select-backup.ts'
import { openTrust, type Trust } from './signing/index.ts'

export interface BackupSummary {
  id: string
  createdAt: string
  app: string
  database: string
  /** Tells databases of one name apart; null where it was not known. */
  instance: string | null
  serverVersion: string
  encrypted: boolean
  tables: number
  rows: number
  storedBytes: number
  /** The public key it is signed with; null where it is not. */
  signer: string | null
  /** It was signed by somebody to believe. What was not is no copy to count on: anybody who may write to the store can make one. */
  trusted: boolean
  /** Its last restore drill; absent where there was none. */
  proven?: { at: string; proven: boolean; restoreMs: number }
  /** Why the manifest cannot be read; absent for a sound one. The other figures are then empty. */
  problem?: string
}

/**
 * The backups in the store, newest first, of every database that has some there. One whose manifest was damaged is listed with its
 * problem, never left out.
 */
export async function listBackups(
  ctx: Pick<Context, 'objects' | 'config' | 'env' | 'db'>,
  trust: Trust = openTrust(ctx),
): Promise<BackupSummary[]> {
  const store = await ctx.objects()
  const drills = await readDrillRecords(store, trust)
  const summaries: BackupSummary[] = []
  for (const found of await findBackups(store)) {
    if ('problem' in found) {
      summaries.push({ ...unreadable, id: found.id, problem: found.problem.detail })
      continue
    }
    const { id, manifest, signer } = found
    const drill = drills.get(id)
    summaries.push({
      id,
      createdAt: manifest.createdAt,
      app: manifest.app,
      database: manifest.database.name,
      instance: manifest.database.instance ?? null,
      serverVersion: manifest.database.serverVersion,
      encrypted: manifest.encryption.kind === 'age',
      tables: manifest.tables.length,
      rows: manifest.tables.reduce((sum, table) => sum + table.rows, 0),
      storedBytes: manifest.objects.reduce((sum, object) => sum + object.bytes, 0),
      signer,
      trusted: await trust.accepts(signer),
      ...(drill === undefined ? {} : { proven: { at: drill.at, proven: drill.proven, restoreMs: drill.restoreMs } }),
    })
  }
  return summaries
}

const unreadable: Omit<BackupSummary, 'id'> = {
  createdAt: '',
  app: '',
  database: '',
  instance: null,
  serverVersion: '',
  encrypted: false,
  tables: 0,
  rows: 0,
  storedBytes: 0,
  signer: null,
  trusted: false,
}
