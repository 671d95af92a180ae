import type { Session } from '../platform/db.ts'
import { CaretakerError } from '../platform/errors.ts'
import { copyObjectIn } from './copy-in.ts'
import { largeObjectFraming } from './framing.ts'
import { copyLargeObjectsIn, copyLargeObjectsOut, largeObjectPrelude, largeObjectTail } from './large-objects.ts'
import { codeOf, hashCuts, type Loading, partObject, reasonOf } from './load-tables.ts'
import { readObjectText } from './object-stream.ts'
import type { Journal } from './restore/journal.ts'
import { runScript, type ScriptRules } from './run-script.ts'

/** Makes, fills and compares all large objects in one transaction; their owners and grants follow. */
export async function loadLargeObjects(
  { loading, journal, rules }: { loading: Loading; journal: Journal; rules: ScriptRules },
  session: Session,
): Promise<void> {
  const { manifest, opening } = loading
  const [part] = manifest.largeObjects.parts
  if (part === undefined) return
  if (!journal.isDone('large objects')) {
    const object = partObject(manifest, part.key)
    let bytes = 0
    try {
      await session.execute('begin')
      for (const statement of largeObjectPrelude) await session.execute(statement)
      await copyObjectIn(opening, object, session, copyLargeObjectsIn, largeObjectFraming, (piece) => {
        bytes += piece.length
      })
      await runScript(session, largeObjectTail, rules)
      const [found] = await hashCuts(session, copyLargeObjectsOut, [object.contentBytes])
      if (found !== object.contentSha256)
        throw new CaretakerError('restore_mismatch', 'The restored large objects do not equal those that were backed up.')
      const note = journal.noting('large objects')
      await session.execute(note.sql)
      await session.execute('commit')
      note.done()
    } catch (error) {
      if (error instanceof CaretakerError && error.code === 'restore_mismatch') throw error
      throw new CaretakerError(
        codeOf(error),
        `The large objects could not be loaded; it failed after ${bytes} of ${object.contentBytes} bytes: ${reasonOf(error)}`,
        { cause: error },
      )
    }
  }
  const owners = manifest.objects.find((one) => one.kind === 'large-object-owners')
  if (owners === undefined) throw new CaretakerError('backup_corrupt', 'The backup has no large-object-owners.')
  if (journal.isDone('large object owners')) return
  await journal.skip(session, (await runScript(session, await readObjectText(opening, owners), rules)).skipped)
  await journal.note(session, 'large object owners')
}
