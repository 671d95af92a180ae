import type { Session } from '../../platform/db.ts'
import type { LeftOut } from '../catalogue.ts'
import type { Scope } from '../supabase.ts'
import { nameOf } from '../table-name.ts'
import type { ChangeRules } from './change-filter.ts'

export interface SourceRules extends ChangeRules {
  /** What only the full backups hold, and why. */
  fullOnly: LeftOut[]
}

/** Which changes an increment takes, of a database as it is now. */
export async function readChangeRules(session: Session, scope: Scope): Promise<SourceRules> {
  const rows = await session.query<{ schema: string; name: string; kind: 'extension' | 'materialised' | 'unlogged' | 'no identity' }>(
    `select n.nspname as schema, c.relname as name,
       case when c.relkind = 'm' then 'materialised'
         when exists (select from pg_catalog.pg_depend d where d.classid = 'pg_class'::regclass and d.objid = c.oid and d.deptype = 'e') then 'extension'
         when c.relpersistence = 'u' then 'unlogged' else 'no identity' end as kind
     from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
     where c.relkind in ('r', 'm') and n.nspname not like 'pg\\_%' and n.nspname <> 'information_schema'
       and (c.relkind = 'm' or c.relpersistence = 'u'
         or exists (select from pg_catalog.pg_depend d where d.classid = 'pg_class'::regclass and d.objid = c.oid and d.deptype = 'e')
         or not (c.relreplident = 'f'
           or (c.relreplident = 'd' and exists (select from pg_catalog.pg_index i where i.indrelid = c.oid and i.indisprimary and i.indisvalid))
           or (c.relreplident = 'i' and exists (select from pg_catalog.pg_index i where i.indrelid = c.oid and i.indisreplident and i.indisvalid))))
     order by 1, 2`,
  )
  const [largeObjects] = await session.query<{ some: boolean }>('select exists (select from pg_catalog.pg_largeobject_metadata) as some')
  const excluded = new Set(scope.excludeSchemas)
  const mine = rows.filter((row) => !excluded.has(row.schema))
  const named = (kind: (typeof rows)[number]['kind']) => new Set(mine.filter((row) => row.kind === kind).map(nameOf))
  const drops = new Set([...scope.excludeRows, ...named('extension'), ...named('materialised')])
  const noIdentity = named('no identity')
  return {
    drops: (table) => isSystem(table.schema) || excluded.has(table.schema) || drops.has(nameOf(table)),
    hasIdentity: (table) => !noIdentity.has(nameOf(table)),
    fullOnly: [
      ...mine.flatMap((row): LeftOut[] => {
        if (row.kind === 'materialised' || scope.excludeRows.includes(nameOf(row))) return []
        const what = row.kind === 'no identity' ? `updates and deletes of ${nameOf(row)}` : `rows of ${nameOf(row)}`
        return [{ what, why: reasons[row.kind] }]
      }),
      ...(largeObjects?.some === true
        ? [{ what: 'large objects', why: 'PostgreSQL does not decode them: a restore to a time has those of the last full backup.' }]
        : []),
    ],
  }
}

const reasons = {
  extension: 'The table belongs to an extension.',
  unlogged: 'The table is unlogged.',
  'no identity':
    'The table has no primary key, so the log does not say which row is meant. After the first of them it is restored as it was in the last full backup; "alter table … replica identity full" changes that.',
} as const

function isSystem(schema: string): boolean {
  return schema.startsWith('pg_') || schema === 'information_schema'
}
