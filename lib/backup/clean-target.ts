import type { Session } from '../platform/db.ts'
import { CaretakerError } from '../platform/errors.ts'
import type { Target } from './target.ts'

/** @throws {CaretakerError} `restore_target_not_empty` unless `confirmed` is the database's own name, and for a Supabase project */
export function confirmClean(target: Target, confirmed: string): void {
  if (confirmed !== target.name)
    throw new CaretakerError(
      'restore_target_not_empty',
      `--clean ${confirmed}: the target is "${target.name}". Give its own name to have everything in it deleted.`,
    )
  if (target.platform !== null)
    throw new CaretakerError(
      'restore_target_not_empty',
      'A Supabase project cannot be emptied: its schemas belong to the platform. Restore into a new project.',
    )
}

/** Empties a database, in one transaction: everything that pg_dump would carry is dropped, and `public` made anew. */
export async function cleanTarget(session: Session): Promise<void> {
  await session.execute('begin')
  const statements = await session.query<{ sql: string }>(dropStatements)
  for (const { sql } of statements) await session.execute(sql)
  await session.execute(`select pg_catalog.lo_unlink(oid) from pg_catalog.pg_largeobject_metadata`)
  const [server] = await session.query<{ number: number }>(`select current_setting('server_version_num')::int as number`)
  await session.execute('create schema public')
  await session.execute(`comment on schema public is 'standard public schema'`)
  // As initdb leaves it; pg_dump writes only what differs from that.
  if ((server?.number ?? 0) >= 150_000) {
    await session.execute('alter schema public owner to pg_database_owner')
    await session.execute('grant usage on schema public to public')
  } else await session.execute('grant all on schema public to public')
  await session.execute('commit')
}

/** In an order in which nothing is in the way of what follows; the rest goes by cascade. */
const dropStatements = `
  select sql from (
    select 1 as step, format('drop event trigger %I', evtname) as sql from pg_catalog.pg_event_trigger
      where not exists (select from pg_catalog.pg_depend d where d.classid = 'pg_event_trigger'::regclass and d.objid = pg_event_trigger.oid and d.deptype = 'e')
    union all select 2, format('drop publication %I', pubname) from pg_catalog.pg_publication
    union all select 3, format('drop extension %I cascade', extname) from pg_catalog.pg_extension where extname <> 'plpgsql'
    union all select 4, format('drop foreign data wrapper %I cascade', fdwname) from pg_catalog.pg_foreign_data_wrapper w
      where not exists (select from pg_catalog.pg_depend d where d.classid = 'pg_foreign_data_wrapper'::regclass and d.objid = w.oid and d.deptype = 'e')
    union all select 5, format('drop schema %I cascade', nspname) from pg_catalog.pg_namespace
      where nspname not like 'pg\\_%' and nspname <> 'information_schema'
        and not exists (select from pg_catalog.pg_depend d where d.classid = 'pg_namespace'::regclass and d.objid = pg_namespace.oid and d.deptype = 'e')
  ) drops order by step, sql`
