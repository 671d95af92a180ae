import type { ObjectStore } from '../../platform/objects.ts'
import { drillsPrefix } from './identity.ts'

/** What is remembered of a backup's last drill, beside the backups. */
export interface DrillRecord {
  id: string
  at: string
  /** Rows, schema and assertions are as they should be. */
  proven: boolean
  restoreMs: number
}

const pattern = /^drills\/([^/]+)\/record\.json$/

export async function writeDrillRecord(store: ObjectStore, record: DrillRecord): Promise<void> {
  await store.put(`${drillsPrefix}${record.id}/record.json`, Buffer.from(`${JSON.stringify(record)}\n`), {
    contentType: 'application/json',
  })
}

/** The last drill of every backup that has had one. */
export async function readDrillRecords(store: ObjectStore): Promise<Map<string, DrillRecord>> {
  const keys: string[] = []
  for await (const object of store.list(drillsPrefix)) if (pattern.test(object.key)) keys.push(object.key)
  const records = new Map<string, DrillRecord>()
  for (const key of keys) {
    const stream = await store.get(key)
    if (stream === null) continue
    const chunks: Buffer[] = []
    for await (const chunk of stream) chunks.push(chunk as Buffer)
    const record = JSON.parse(Buffer.concat(chunks).toString('utf8')) as DrillRecord
    records.set(record.id, record)
  }
  return records
}
