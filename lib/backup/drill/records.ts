import * as z from 'zod/mini'
import { hasCode } from '../../platform/errors.ts'
import type { ObjectStore } from '../../platform/objects.ts'
import { readSignedDocument, signDocument } from '../signed-document.ts'
import type { Signer, Trust } from '../signing/index.ts'
import { drillsPrefix } from './identity.ts'

const schema = z.strictObject({
  format: z.literal('caretaker-drill/1'),
  /** Of the backup. */
  id: z.string(),
  at: z.iso.datetime(),
  /** Rows, schema and assertions are as they should be. */
  proven: z.boolean(),
  restoreMs: z.number(),
})

/** What is remembered of a backup's last drill, beside the backups. */
export type DrillRecord = Omit<z.output<typeof schema>, 'format'>

const pattern = /^drills\/([^/]+)\/record\.json$/

export async function writeDrillRecord(store: ObjectStore, record: DrillRecord, signer: Signer | null): Promise<void> {
  await store.put(`${drillsPrefix}${record.id}/record.json`, signDocument({ format: 'caretaker-drill/1', ...record }, signer), {
    contentType: 'application/json',
  })
}

/** The last drill of every backup that has had one; none that somebody else may have made up, and none that was damaged. */
export async function readDrillRecords(store: ObjectStore, trust: Trust): Promise<Map<string, DrillRecord>> {
  const keys: string[] = []
  for await (const object of store.list(drillsPrefix)) if (pattern.test(object.key)) keys.push(object.key)
  const records = new Map<string, DrillRecord>()
  for (const key of keys) {
    const found = await readSignedDocument(store, key, schema).catch((error: unknown) => {
      if (hasCode(error, 'backup_corrupt')) return null
      throw error
    })
    if (found === null || key !== `${drillsPrefix}${found.content.id}/record.json` || !(await trust.accepts(found.signer))) continue
    const { format: _format, ...record } = found.content
    records.set(record.id, record)
  }
  return records
}
