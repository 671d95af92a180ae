import { identifier, type Queryable } from '../platform/db.ts'
import type { Relation } from './relations.ts'

/** One sentence a privilege that the database role lacks on the table. */
export async function missingPrivileges(
  db: Queryable,
  table: Relation,
  wanted: readonly ('select' | 'insert' | 'update' | 'delete')[],
): Promise<string[]> {
  const rows = await db.query<{ role: string; privilege: string }>(
    `select current_user as role, w.privilege from unnest($2::text[]) with ordinality as w(privilege, n)
     where not has_table_privilege($1::oid, w.privilege) order by w.n`,
    [table.oid, wanted],
  )
  return rows.map(
    ({ role, privilege }) =>
      `the role ${role} may not ${privilege} on ${table.label}: grant ${privilege} on ${table.sql} to ${identifier(role)}`,
  )
}

interface Member extends Record<string, unknown> {
  role: string
  owner: string
  allowed: boolean
  version: number
  ownsDatabase: boolean
  schema: string
  enters: boolean
  root: boolean
  table: string
}

/**
 * What the role lacks to vacuum, analyse, reindex or refresh the table, with the statements that grant it; undefined when
 * it may. Partitions are asked one by one: PostgreSQL leaves out those that the role may not maintain, with a warning.
 */
export async function maintainProblem(
  db: Queryable,
  table: Relation,
  verb: 'vacuum' | 'analyze' | 'reindex' | 'refresh',
): Promise<string | undefined> {
  const maintain = await maintainPrivilege(db)
  const members = await db.query<Member>(
    `with recursive tree as (
       select $1::oid as oid
       union
       select i.inhrelid from pg_inherits i join tree on tree.oid = i.inhparent join pg_class p on p.oid = i.inhparent
       where p.relkind in ('p', 'I')
     )
     select current_user as role, pg_get_userbyid(c.relowner) as owner, n.nspname as schema,
            pg_has_role(c.relowner, 'usage') ${maintain} as allowed,
            current_setting('server_version_num')::int as version,
            pg_has_role(d.datdba, 'usage') as "ownsDatabase",
            has_schema_privilege(n.oid, 'usage') as enters,
            c.oid = $1::oid as root, c.oid::regclass::text as table
     from tree join pg_class c on c.oid = tree.oid join pg_namespace n on n.oid = c.relnamespace, pg_database d
     where d.datname = current_database() and c.relkind <> 'f'
     order by c.oid <> $1::oid, n.nspname, c.relname`,
    [table.oid],
  )
  const [root] = members
  if (root === undefined) return undefined
  const role = identifier(root.role)
  const shut = members.find((member) => !member.enters)
  if (shut !== undefined)
    return `the role ${root.role} may not ${verb} ${table.label}, because it may not use the schema ${shut.schema}: grant usage on schema ${identifier(shut.schema)} to ${role}`
  const lacking = members.filter(
    // The owner of a database may vacuum and analyse what others own in it, and no more.
    (member) => !member.allowed && !(member.ownsDatabase && (verb === 'vacuum' || verb === 'analyze')),
  )
  const [first] = lacking
  if (first === undefined) return undefined
  const what = first.root ? table.label : `${table.label}'s partition ${first.table}`
  const others = lacking.length > 1 ? ` (and ${lacking.length - 1} more of its partitions)` : ''
  const whose = `the role ${root.role} may not ${verb} ${what}${others}, which belongs to ${first.owner}`
  if (first.version >= 170_000) {
    const relations = lacking.slice(0, 20).map((member) => (member.root ? table.sql : member.table))
    return `${whose}: grant maintain on ${relations.join(', ')} to ${role}`
  }
  return `${whose}, and PostgreSQL ${Math.trunc(first.version / 10_000)} has no MAINTAIN privilege to grant: grant ${identifier(first.owner)} to ${role}, or connect as the owner`
}

/** What the role lacks to drop the index: only the owner may, whatever was granted. Undefined when it may. */
export async function dropProblem(db: Queryable, index: Relation): Promise<string | undefined> {
  const [row] = await db.query<{ role: string; owner: string }>(
    `select current_user as role, pg_get_userbyid(c.relowner) as owner from pg_class c
     where c.oid = $1::oid and not pg_has_role(c.relowner, 'usage')`,
    [index.oid],
  )
  if (row === undefined) return undefined
  return `the role ${row.role} may not drop ${index.label}, which an unfinished rebuild left and which belongs to ${row.owner}: drop index concurrently ${index.sql} as ${row.owner}, or grant ${identifier(row.owner)} to ${identifier(row.role)}`
}

/** A condition for `pg_class c`, from PostgreSQL 17 on: before, there is no such privilege to ask about. */
export async function maintainPrivilege(db: Queryable): Promise<string> {
  const [server] = await db.query<{ version: number }>(`select current_setting('server_version_num')::int as version`)
  return (server?.version ?? 0) >= 170_000 ? `or has_table_privilege(c.oid, 'MAINTAIN')` : ''
}
