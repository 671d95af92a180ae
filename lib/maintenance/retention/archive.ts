import { identifier, type Queryable } from '../../platform/db.ts'
import { errorAt, type Issue } from '../issue.ts'
import { type Column, findRelation, isIssue, loadColumns, type Relation } from '../relations.ts'
import { purgeVerb } from './purge.ts'
import type { RetentionTarget } from './target.ts'
import type { Destination, Verb } from './touch.ts'

/** Where archived rows go, and which columns they take along. */
export interface ArchiveTarget {
  table: Relation
  /** Matched by name, in the order of the source. */
  columns: readonly string[]
}

interface ArchiveInput {
  table: Relation
  columns: ReadonlyMap<string, Column>
  archiveTo: string
  path: string
}

/**
 * Matches the columns of a table with those of its archive by name. The archive may have more (`archived_at` with a
 * default); a column it lacks is an error, because its values would be lost.
 */
export async function resolveArchive(db: Queryable, input: ArchiveInput): Promise<{ target?: ArchiveTarget; issues: Issue[] }> {
  const { table, columns, path } = input
  const archive = await findRelation(db, input.archiveTo, 'table', path)
  if (isIssue(archive)) return { issues: [archive] }
  if (archive.oid === table.oid)
    return { issues: [errorAt(path, `found the table itself, expected another table for the rows of ${table.label}`)] }
  const there = await loadColumns(db, archive.oid)
  const issues: Issue[] = []
  const moved: string[] = []
  const missing: string[] = []
  for (const column of columns.values()) {
    const twin = there.get(column.name)
    if (twin === undefined) {
      // What PostgreSQL computed it can compute again from the columns that are moved.
      if (!column.generated) missing.push(`${identifier(column.name)} ${column.type}`)
    } else if (twin.generated) {
      if (!column.generated)
        issues.push(
          errorAt(
            path,
            `${archive.label}.${column.name} is generated, so the value that ${table.label} holds would be lost; expected a plain column`,
          ),
        )
    } else moved.push(column.name)
  }
  if (missing.length > 0)
    issues.push(
      errorAt(
        path,
        `found ${archive.label} without ${missing.join(', ')}; expected every column of ${table.label}: alter table ${archive.sql} ${missing.map((column) => `add column ${column}`).join(', ')}`,
      ),
    )
  const empty = [...there.values()].filter(
    (column) => column.notNull && !columns.has(column.name) && !column.hasDefault && !column.generated && column.identity === null,
  )
  if (empty.length > 0)
    issues.push(
      errorAt(
        path,
        `${archive.label} has ${empty.map((column) => column.name).join(', ')} "not null" without a default, and ${table.label} has no such column; expected a default`,
      ),
    )
  const untyped = await unassignable(db, moved, columns, there)
  for (const name of untyped)
    issues.push(
      errorAt(
        path,
        `${archive.label}.${name} is ${there.get(name)?.type}, which does not take every ${columns.get(name)?.type} as it is; expected ${columns.get(name)?.type}`,
      ),
    )
  return issues.length > 0 ? { issues } : { target: { table: archive, columns: moved }, issues }
}

/** Columns whose type in the archive is another one that PostgreSQL does not convert to without asking (text takes all). */
async function unassignable(
  db: Queryable,
  names: readonly string[],
  from: ReadonlyMap<string, Column>,
  to: ReadonlyMap<string, Column>,
): Promise<string[]> {
  const different = names.filter((name) => from.get(name)?.typeOid !== to.get(name)?.typeOid && to.get(name)?.type !== 'text')
  if (different.length === 0) return []
  const rows = await db.query<{ name: string }>(
    `select p.name from unnest($1::text[], $2::oid[], $3::oid[]) as p(name, source, target)
     where not exists (select from pg_cast where castsource = p.source and casttarget = p.target and castcontext = 'i')`,
    [different, different.map((name) => from.get(name)?.typeOid), different.map((name) => to.get(name)?.typeOid)],
  )
  return rows.map((row) => row.name)
}

/** Moves the batch: deleted here and inserted there by one statement, so no instant exists at which a row is in both or neither. */
export function archiveVerb(target: Pick<RetentionTarget, 'table'>, archive: ArchiveTarget): Verb {
  return { ...purgeVerb(target), into: destinationOf(archive) }
}

/** The archive as the end of a statement that hands rows on. */
export function destinationOf({ table, columns }: ArchiveTarget): Destination {
  const list = columns.map(identifier).join(', ')
  // Identity columns keep their values: the archive's own sequence must not renumber them.
  return { columns, insert: (from) => `insert into ${table.sql} (${list}) overriding system value select ${list} from ${from}` }
}
