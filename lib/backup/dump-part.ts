import type { Session } from '../platform/db.ts'
import { copyOutBlocks } from './copy-out.ts'
import { dumpFailure } from './dump-failure.ts'
import { largeObjectFraming, tableFraming } from './framing.ts'
import { copyLargeObjectsOut } from './large-objects.ts'
import { type Sealing, writeObject } from './object-stream.ts'
import type { OpenDump, Part, WrittenPart } from './open-dump.ts'
import { copyOut } from './part-sql.ts'
import { nameOf } from './table-name.ts'

/** What a part is of, as people call it. */
export function nameOfPart(dump: Pick<OpenDump, 'tables'>, part: Part): string {
  const table = part.table === null ? undefined : dump.tables[part.table]
  return table === undefined ? 'the large objects' : nameOf(table)
}

/**
 * Stores the rows of one part, read on a session that has the dump's snapshot.
 * @throws {CaretakerError} `backup_incomplete` or what the store said; the detail names the table and the bytes done
 */
export async function dumpPart(
  sealing: Sealing,
  dump: Pick<OpenDump, 'tables'>,
  part: Part,
  session: Session,
  onBytes: (bytes: number) => void,
): Promise<WrittenPart> {
  const table = part.table === null ? undefined : dump.tables[part.table]
  const copy = copyOutBlocks(session.client, table === undefined ? copyLargeObjectsOut : copyOut(table, part.range))
  let bytes = 0
  try {
    const kind = table === undefined ? 'large-objects' : 'data'
    const framing = table === undefined ? largeObjectFraming : tableFraming(table)
    const object = await writeObject(sealing, part.name, kind, copy, framing, (more) => {
      bytes += more
      onBytes(more)
    })
    return { object, rows: copy.rowCount }
  } catch (error) {
    if (sealing.signal.aborted) throw error
    throw dumpFailure(error, table === undefined ? 'Dumping the large objects' : `Table ${nameOfPart(dump, part)}`, bytes)
  }
}
