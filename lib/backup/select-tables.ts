import { nearest } from '../config/index.ts'
import { CaretakerError } from '../platform/errors.ts'
import type { Manifest, ManifestTable } from './manifest.ts'
import { partitionsOf } from './restore/partitions.ts'
import { nameOf } from './table-name.ts'

/** Tables a message names. There may be thousands. */
const named = 20

/**
 * The tables of a backup that `names` mean, each once: `table` (in public), `schema.table`, with quotes where psql wants some or without,
 * or a partitioned table for all of its partitions.
 * @throws {CaretakerError} `not_found` naming the first that the backup does not have, `invalid_input` for one that could be two
 */
export function selectTables(manifest: Manifest, names: readonly string[], preData: string): ManifestTable[] {
  const partitions = partitionsOf(preData, manifest.restrictKey)
  const chosen = new Set<ManifestTable>()
  for (const name of names) {
    const found = manifest.tables.filter((table) => means(name, table))
    if (found.length > 1)
      throw new CaretakerError('invalid_input', `--only ${name}: could be ${found.map(nameOf).join(' or ')}; give it as written here.`)
    const parents = [...partitions.values()].filter((table) => means(name, table))
    const leaves = manifest.tables.filter((table) => parents.some((parent) => isPartition(table, nameOf(parent), partitions)))
    if (found.length + leaves.length === 0) throw unknown(manifest, name)
    for (const table of [...found, ...leaves]) chosen.add(table)
  }
  return [...chosen]
}

type TableName = Pick<ManifestTable, 'schema' | 'name'>

function means(wanted: string, table: TableName): boolean {
  const { schema, name } = table
  if (wanted === nameOf(table) || wanted === `${schema}.${name}` || (schema === 'public' && wanted === name)) return true
  // As psql writes it.
  const parts = /^(?:(?:"(?:[^"]|"")+"|[^".]+)(?:\.(?!$)|$)){1,2}$/.test(wanted)
    ? (wanted.match(/"(?:[^"]|"")+"|[^".]+/g) ?? []).map((part) => (part.startsWith('"') ? part.slice(1, -1).replaceAll('""', '"') : part))
    : []
  return parts.at(-1) === name && (parts.length === 2 ? parts[0] : 'public') === schema
}

function isPartition(table: TableName, of: string, partitions: ReadonlyMap<string, TableName>): boolean {
  for (let parent = partitions.get(nameOf(table)); parent !== undefined; parent = partitions.get(nameOf(parent)))
    if (nameOf(parent) === of) return true
  return false
}

function unknown(manifest: Manifest, name: string): CaretakerError {
  const all = manifest.tables.map(nameOf)
  const wanted = name.includes('.') ? name : `public.${name}`
  // The schema is what is forgotten most.
  const meant = all.find((table) => table.endsWith(`.${name}`)) ?? nearest(wanted, all)
  const more = all.length > named ? ` and ${all.length - named} more` : ''
  return new CaretakerError(
    'not_found',
    `The backup has no rows of a table "${wanted}".${meant === undefined ? '' : ` Did you mean ${meant}?`} It has ${all.slice(0, named).join(', ')}${more}.`,
  )
}
