import type { Queryable } from '../platform/db.ts'

/**
 * Which database this is, whatever it is called: the identifier that initdb gave its server, and its number there. A copy made by a
 * restore has another one, and so has a database after a major upgrade; a copy of the server's files has the same. Null where
 * the role may not ask.
 */
export async function databaseInstance(db: Queryable): Promise<string | null> {
  // Asked first: a refusal would end the transaction this may be part of.
  const [may] = await db.query<{ ask: boolean }>(`select has_function_privilege('pg_catalog.pg_control_system()', 'execute') as ask`)
  if (may?.ask !== true) return null
  const [row] = await db.query<{ instance: string }>(
    `select c.system_identifier || '/' || d.oid as instance
     from pg_catalog.pg_control_system() c, pg_catalog.pg_database d where d.datname = current_database()`,
  )
  return row?.instance ?? null
}
