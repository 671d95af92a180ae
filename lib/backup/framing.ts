import { CaretakerError } from '../platform/errors.ts'
import { copyLargeObjectsIn, largeObjectPrelude, largeObjectTail } from './large-objects.ts'
import type { Manifest, ManifestObject } from './manifest.ts'
import type { Framing } from './object-stream.ts'
import { copyIn, dataHeader, dataTrailer } from './part-sql.ts'

/** What stands around the rows of a data object so that psql can load it; nothing around other objects. */
export function framingOf(manifest: Pick<Manifest, 'tables'>, object: ManifestObject): Framing {
  if (object.kind === 'large-objects') return largeObjectFraming
  if (object.kind !== 'data') return { head: '', tail: '' }
  const table = manifest.tables.find((candidate) => candidate.parts.some((part) => part.key === object.key))
  if (table === undefined) throw new CaretakerError('backup_corrupt', `${object.key} belongs to no table of the manifest.`)
  return tableFraming(table)
}

export function tableFraming(table: Parameters<typeof copyIn>[0]): Framing {
  return { head: dataHeader(copyIn(table)), tail: dataTrailer }
}

export const largeObjectFraming: Framing = {
  head: dataHeader(copyLargeObjectsIn, largeObjectPrelude),
  tail: `${dataTrailer}${largeObjectTail}`,
}
