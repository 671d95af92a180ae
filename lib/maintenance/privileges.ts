import type { Queryable } from '../platform/db.ts'
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
    ({ role, privilege }) => `the role ${role} may not ${privilege} on ${table.label}: grant ${privilege} on ${table.sql} to "${role}"`,
  )
}

/** What the role lacks to vacuum, analyse, reindex or refresh the table; undefined when it may. */
export async function maintainProblem(
  db: Queryable,
  table: Relation,
  verb: 'vacuum' | 'analyze' | 'reindex' | 'refresh',
): Promise<string | undefined> {
  const [row] = await db.query<{ role: string; owner: string; allowed: boolean; version: number; database: string; ownsDatabase: boolean }>(
    `select current_user as role, pg_get_userbyid(c.relowner) as owner, pg_has_role(c.relowner, 'usage') as allowed,
            current_setting('server_version_num')::int as version,
            pg_has_role(d.datdba, 'usage') as "ownsDatabase"
     from pg_class c, pg_database d where c.oid = $1::oid and d.datname = current_database()`,
    [table.oid],
  )
  if (row === undefined || row.allowed) return undefined
  // The owner of a database may vacuum and analyse what others own in it, and no more.
  if (row.ownsDatabase && (verb === 'vacuum' || verb === 'analyze')) return undefined
  if (row.version >= 170_000) {
    const [maintain] = await db.query<{ allowed: boolean }>(`select has_table_privilege($1::oid, 'MAINTAIN') as allowed`, [table.oid])
    if (maintain?.allowed === true) return undefined
    return `the role ${row.role} may not ${verb} ${table.label}, which belongs to ${row.owner}: grant maintain on ${table.sql} to "${row.role}"`
  }
  return `the role ${row.role} may not ${verb} ${table.label}, which belongs to ${row.owner}, and PostgreSQL ${Math.trunc(row.version / 10_000)} has no MAINTAIN privilege to grant: grant "${row.owner}" to "${row.role}", or connect as the owner`
}
