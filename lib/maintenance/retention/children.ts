import type { RetentionChild, RetentionRule } from '../../config/index.ts'
import { identifier, type Queryable } from '../../platform/db.ts'
import { errorAt, type Issue } from '../issue.ts'
import { findRelation, isIssue, loadColumns, missingColumn, type Relation } from '../relations.ts'
import { type ArchiveTarget, destinationOf, resolveArchive } from './archive.ts'
import { hasIndexOn } from './foreign-keys.ts'
import type { Destination } from './touch.ts'

/** Rows of another table that go along with those of the rule. */
export interface Descent {
  table: Relation
  /** The descent it hangs from, by position; null for the rule's own table. */
  through: number | null
  /** Its columns, and those of the parent that they name. */
  columns: readonly string[]
  references: readonly string[]
  /** Where its rows go; absent where they are deleted. */
  archive?: ArchiveTarget
  into?: Destination
}

/** Matches the rule's `children` with the catalogue, parents before their own children. */
export async function resolveChildren(
  db: Queryable,
  rule: RetentionRule,
  table: Relation,
  path: string,
): Promise<{ descents: Descent[]; issues: Issue[] }> {
  const wanted = rule.children ?? []
  if (wanted.length > 0 && rule.action !== 'purge' && !(typeof rule.action === 'object' && 'archiveTo' in rule.action))
    return {
      descents: [],
      issues: [errorAt(`${path}.children`, 'found children of a rule that takes no rows away; expected none: give their table a rule')],
    }
  const descents: Descent[] = []
  const issues: Issue[] = []
  // Any order in the policy: those whose parent is known come first.
  const open = wanted.map((child, position) => ({ child, at: `${path}.children.${position}` }))
  for (;;) {
    const next = open.findIndex(({ child }) => child.through === undefined || parentOf(descents, child.through) !== undefined)
    const [found] = next < 0 ? [] : open.splice(next, 1)
    if (found === undefined) break
    const { child, at } = found
    const through = child.through === undefined ? null : (parentOf(descents, child.through) ?? null)
    const resolved = await resolveChild(db, {
      rule,
      child,
      parent: through === null ? table : descents[through]?.table,
      through,
      taken: [table.name, ...descents.map((one) => one.table.name)],
      at,
    })
    if ('issues' in resolved) issues.push(...resolved.issues)
    else descents.push(resolved)
  }
  // Where the child that it hangs from is wrong itself, that one is named.
  for (const { child, at } of open)
    if (!wanted.some((other) => other.table === child.through && other !== child))
      issues.push(errorAt(`${at}.through`, `found "${child.through}", expected the table of another child of this rule`))
  return { descents, issues }
}

function parentOf(descents: readonly Descent[], through: string): number | undefined {
  const index = descents.findIndex(({ table }) => table.label === through || `${table.schema}.${table.name}` === through)
  return index < 0 ? undefined : index
}

interface ChildInput {
  rule: RetentionRule
  child: RetentionChild
  parent: Relation | undefined
  through: number | null
  /** Names by which the statements know the tables so far. */
  taken: readonly string[]
  at: string
}

async function resolveChild(
  db: Queryable,
  { rule, child, parent, through, taken, at }: ChildInput,
): Promise<Descent | { issues: Issue[] }> {
  const table = await findRelation(db, child.table, 'table', `${at}.table`)
  if (isIssue(table)) return { issues: [table] }
  if (parent === undefined || table.oid === parent.oid)
    return { issues: [errorAt(`${at}.table`, `found ${table.label}, which would hang from itself; expected another table`)] }
  if (taken.includes(table.name))
    return {
      issues: [
        errorAt(
          `${at}.table`,
          `found ${table.label}, but the rule takes another table of the name ${table.name}; expected names that differ`,
        ),
      ],
    }
  const columns = await loadColumns(db, table.oid)
  const joined = await joinOf(db, child, table, columns, parent, at)
  if ('severity' in joined) return { issues: [joined] }
  const archiving = typeof rule.action === 'object' && 'archiveTo' in rule.action
  if (archiving && child.action === undefined)
    return {
      issues: [
        errorAt(
          `${at}.action`,
          `found nothing, expected { archiveTo: TABLE } for the rows of ${table.label}, or "purge" where they need not be kept`,
        ),
      ],
    }
  const descent: Descent = { table, through, ...joined }
  if (child.action === undefined || child.action === 'purge') return descent
  const archive = await resolveArchive(db, { table, columns, archiveTo: child.action.archiveTo, path: `${at}.action.archiveTo` })
  if (archive.target === undefined) return { issues: archive.issues }
  return { ...descent, archive: archive.target, into: destinationOf(archive.target) }
}

interface Key extends Record<string, unknown> {
  columns: string[]
  references: string[]
}

/** By which columns the child points at its parent: by its foreign key, or as the policy says. */
async function joinOf(
  db: Queryable,
  child: RetentionChild,
  table: Relation,
  columns: Awaited<ReturnType<typeof loadColumns>>,
  parent: Relation,
  at: string,
): Promise<Pick<Descent, 'columns' | 'references'> | Issue> {
  if (child.column !== undefined) {
    const missing = missingColumn(columns, child.column, table, `${at}.column`)
    if (missing !== undefined) return missing
  }
  const keys = (
    await db.query<Key>(
      `select (select array_agg(a.attname::text order by p.n) from unnest(k.conkey) with ordinality as p(num, n)
               join pg_attribute a on a.attrelid = k.conrelid and a.attnum = p.num) as columns,
              (select array_agg(a.attname::text order by p.n) from unnest(k.confkey) with ordinality as p(num, n)
               join pg_attribute a on a.attrelid = k.confrelid and a.attnum = p.num) as references
       from pg_constraint k where k.contype = 'f' and k.conrelid = $1::oid and k.confrelid = $2::oid and k.conparentid = 0
       order by k.conname`,
      [table.oid, parent.oid],
    )
  ).filter((key) => child.column === undefined || (key.columns.length === 1 && key.columns[0] === child.column))
  const [key, second] = keys
  if (key !== undefined && second === undefined && child.references === undefined) return key
  if (child.column === undefined)
    return errorAt(
      `${at}.column`,
      key === undefined
        ? `found nothing, and ${table.label} has no foreign key to ${parent.label}; expected the column that points at it`
        : `found nothing, and ${table.label} has ${keys.length} foreign keys to ${parent.label} (${keys.map((one) => one.columns.join(', ')).join('; ')}); expected one of their columns`,
    )
  const references = child.references ?? (await primaryKey(db, parent))
  if (references === undefined)
    return errorAt(`${at}.references`, `found nothing, and ${parent.label} has no primary key of one column; expected the column it names`)
  const missing = missingColumn(await loadColumns(db, parent.oid), references, parent, `${at}.references`)
  if (missing !== undefined) return missing
  if (!(await isUnique(db, parent, references)))
    return errorAt(
      `${at}.references`,
      `found "${references}", which is not unique in ${parent.label}: rows of ${table.label} could belong to a row that stays; expected a column with a unique index`,
    )
  const problem = await tryJoin(db, table, child.column, parent, references)
  if (problem !== undefined) return errorAt(`${at}.column`, problem)
  return { columns: [child.column], references: [references] }
}

async function primaryKey(db: Queryable, table: Relation): Promise<string | undefined> {
  const rows = await db.query<{ name: string }>(
    `select a.attname as name from pg_index i join pg_attribute a on a.attrelid = i.indrelid and a.attnum = i.indkey[0]
     where i.indrelid = $1::oid and i.indisprimary and i.indnkeyatts = 1`,
    [table.oid],
  )
  return rows[0]?.name
}

async function isUnique(db: Queryable, table: Relation, column: string): Promise<boolean> {
  const [row] = await db.query<{ unique: boolean }>(
    `select exists (select from pg_index i join pg_attribute a on a.attrelid = i.indrelid and a.attnum = i.indkey[0]
                    where i.indrelid = $1::oid and i.indisunique and i.indisvalid and i.indpred is null and i.indnkeyatts = 1 and a.attname = $2) as unique`,
    [table.oid, column],
  )
  return row?.unique === true
}

async function tryJoin(db: Queryable, child: Relation, column: string, parent: Relation, references: string): Promise<string | undefined> {
  const [row] = await db.query<{ comparable: boolean; child: string; parent: string }>(
    `select exists (select from pg_operator where oprname = '=' and oprleft in (c.atttypid, t.typbasetype) and oprright in (p.atttypid, s.typbasetype)) as comparable,
            format_type(c.atttypid, null) as child, format_type(p.atttypid, null) as parent
     from pg_attribute c join pg_type t on t.oid = c.atttypid, pg_attribute p join pg_type s on s.oid = p.atttypid
     where c.attrelid = $1::oid and c.attname = $2 and p.attrelid = $3::oid and p.attname = $4`,
    [child.oid, column, parent.oid, references],
  )
  // varchar has no operators of its own; text and varchar name each other all the same.
  if (row === undefined || row.comparable || (/^(text|character)/.test(row.child) && /^(text|character)/.test(row.parent))) return undefined
  return `found "${column}" of type ${row.child}, which cannot be compared with ${parent.label}.${references} (${row.parent}); expected a column of that type`
}

/** The rows of the descent that go, as the end of a query over its table: those whose parent, and its parent, satisfy `condition`. */
export function whereGoing(descents: readonly Descent[], index: number, table: Relation, condition: string): string {
  const descent = descents[index]
  if (descent === undefined) return 'false'
  const parent = descent.through === null ? table : (descents[descent.through]?.table ?? table)
  const above = descent.through === null ? condition : whereGoing(descents, descent.through, table, condition)
  const child = identifier(descent.table.name)
  const join = descent.columns.map(
    (column, i) => `${identifier(parent.name)}.${identifier(descent.references[i] ?? '')} = ${child}.${identifier(column)}`,
  )
  return `exists (select from ${parent.sql} as ${identifier(parent.name)} where ${join.join(' and ')} and ${above})`
}

/** Children that are found without an index, with about how many rows they have: each batch reads their whole table. */
export async function unindexedChildren(
  db: Queryable,
  descents: readonly Descent[],
): Promise<{ table: Relation; columns: readonly string[]; rows: number }[]> {
  const found: { table: Relation; columns: readonly string[]; rows: number }[] = []
  for (const { table, columns } of descents) {
    if (await hasIndexOn(db, table.oid, columns)) continue
    const [row] = await db.query<{ rows: number }>(
      `select coalesce(sum(greatest(c.reltuples, 0)), 0)::float8 as rows from pg_class c
       where c.oid = $1::oid or c.oid in (select relid from pg_partition_tree($1::oid) where isleaf)`,
      [table.oid],
    )
    found.push({ table, columns, rows: row?.rows ?? 0 })
  }
  return found
}
