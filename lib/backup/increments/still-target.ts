import { identifier, type Session } from '../../platform/db.ts'
import { CaretakerError, sqlState } from '../../platform/errors.ts'
import type { Journal } from '../restore/journal.ts'
import { literal } from '../sequences.ts'

export interface Stilled {
  /** How triggers and foreign keys are kept from acting on what has happened already. */
  how: 'session_replication_role' | 'foreign keys dropped and made again'
  /** Brings them back, and checks the foreign keys of the tables that were touched (by name as SQL has it). Returns what does not hold. */
  restore(touched: ReadonlySet<string>): Promise<string[]>
}

/**
 * Keeps triggers, rules and foreign keys still: the changes that they made in the source are in the increments. What a run that was broken
 * off has dropped is in the journal, and brought back by the one that goes on.
 */
export async function stillTarget(session: Session, journal: Journal): Promise<Stilled> {
  const step = 'stilled'
  if (!journal.isDone(step)) {
    const stilled = await stillSession(session)
    if (stilled !== null) return stilled
    await dropByOwner(session, (back) => journal.noting(step, back))
  }
  const back = journal.detailOf(step) as { sql: string; what: string }[]
  return {
    how: 'foreign keys dropped and made again',
    async restore() {
      for (const [at, { sql, what }] of back.entries()) {
        const again = journal.noting(`${step}:${at}`)
        if (journal.isDone(`${step}:${at}`)) continue
        try {
          await session.client.query(`begin; ${sql}; ${again.sql}; commit`)
          again.done()
        } catch (error) {
          throw new CaretakerError(
            'restore_mismatch',
            `${what} does not hold in what was restored: ${error instanceof Error ? error.message : 'unknown'}.`,
            { cause: error },
          )
        }
      }
      return []
    },
  }
}

/** null where the role may not. */
async function stillSession(session: Session): Promise<Stilled | null> {
  try {
    await session.execute(`set session_replication_role = 'replica'`)
    return {
      how: 'session_replication_role',
      async restore(touched) {
        await session.execute(`set session_replication_role = 'origin'`)
        return checkForeignKeys(session, touched)
      },
    }
  } catch (error) {
    if (sqlState(error) !== '42501') throw error
    return null
  }
}

/**
 * Says before anything is restored what would keep `stillTarget` from its work afterwards: the role may do neither, and what is there
 * already (in a Supabase project much is) belongs to others.
 * @throws {CaretakerError} `forbidden`
 */
export async function requireStillable(session: Session, target: { cleaned: boolean }): Promise<void> {
  try {
    await session.execute(`set session_replication_role = 'replica'`)
    await session.execute(`set session_replication_role = 'origin'`)
  } catch (error) {
    if (sqlState(error) !== '42501') throw error
    if (!target.cleaned) await refuseForeign(session, 'Nothing was restored. Use')
  }
}

/**
 * What an owner may do instead, in one transaction that notes the statements that undo it.
 * @throws {CaretakerError} `forbidden` where a table of another owner would act on its own: a trigger that adds the rows again
 */
async function dropByOwner(
  session: Session,
  noting: (back: { sql: string; what: string }[]) => { sql: string; done(): void },
): Promise<void> {
  await refuseForeign(session, 'The target holds the full backup as it was. Empty it and restore with')
  const rows = await session.query<{ still: string; back: string; what: string; comment: string | null }>(
    `with mine as (
       select c.oid, c.oid::regclass::text as name from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
       where c.relkind in ('r', 'p') and n.nspname not like 'pg\\_%' and n.nspname <> 'information_schema' and pg_has_role(c.relowner, 'usage')
     )
     select 1 as step, format('alter table %s drop constraint %I', m.name, k.conname) as still,
         format('alter table %s add constraint %I %s', m.name, k.conname, pg_get_constraintdef(k.oid)) as back,
         format('Foreign key %s of %s', k.conname, m.name) as what,
         'constraint ' || quote_ident(k.conname) || ' on ' || m.name || ' is ' || quote_literal(obj_description(k.oid, 'pg_constraint')) as comment
       from pg_catalog.pg_constraint k join mine m on m.oid = k.conrelid where k.contype = 'f' and k.conparentid = 0
     union all
     select 2, format('alter table %s disable trigger %I', m.name, t.tgname),
         format('alter table %s enable %s trigger %I', m.name, case t.tgenabled when 'A' then 'always' when 'R' then 'replica' else '' end, t.tgname),
         format('Trigger %s of %s', t.tgname, m.name), null
       from pg_catalog.pg_trigger t join mine m on m.oid = t.tgrelid where not t.tgisinternal and t.tgenabled <> 'D' and t.tgparentid = 0
     union all
     select 3, format('alter table %s disable rule %I', m.name, r.rulename),
         format('alter table %s enable %s rule %I', m.name, case r.ev_enabled when 'A' then 'always' when 'R' then 'replica' else '' end, r.rulename),
         format('Rule %s of %s', r.rulename, m.name), null
       from pg_catalog.pg_rewrite r join mine m on m.oid = r.ev_class where r.rulename <> '_RETURN' and r.ev_enabled <> 'D'
     union all
     select 4, format('alter table %s no force row level security', m.name), format('alter table %s force row level security', m.name), 'Row security of ' || m.name, null
       from pg_catalog.pg_class c join mine m on m.oid = c.oid where c.relforcerowsecurity
     order by 1, 2`,
  )
  const note = noting(
    rows.flatMap(({ back, what, comment }) => [{ sql: back, what }, ...(comment === null ? [] : [{ sql: `comment on ${comment}`, what }])]),
  )
  await session.execute('begin')
  for (const { still } of rows) await session.execute(still)
  await session.execute(note.sql)
  await session.execute('commit')
  note.done()
}

/** @throws {CaretakerError} `forbidden` where a table of another owner would act on its own; `instead` begins the sentence on what to do */
async function refuseForeign(session: Session, instead: string): Promise<void> {
  const [foreign] = await session.query<{ what: string }>(
    `select what from (
       select format('trigger %I of %s', t.tgname, t.tgrelid::regclass) as what, t.tgrelid as relation from pg_catalog.pg_trigger t
         where not t.tgisinternal and t.tgenabled in ('O', 'A')
       union all
       select format('foreign key %I of %s', k.conname, k.conrelid::regclass), k.conrelid from pg_catalog.pg_constraint k where k.contype = 'f'
     ) active
     join pg_catalog.pg_class c on c.oid = active.relation join pg_catalog.pg_namespace n on n.oid = c.relnamespace
     where n.nspname not like 'pg\\_%' and n.nspname <> 'information_schema' and not pg_has_role(c.relowner, 'usage')
     order by 1 limit 1`,
  )
  if (foreign !== undefined)
    throw new CaretakerError(
      'forbidden',
      `The role may neither set session_replication_role nor disable ${foreign.what}, which would act again on changes that are repeated. ${instead} a role that may (grant set on parameter session_replication_role to it).`,
    )
}

interface ForeignKey {
  name: string
  child: string
  parent: string
  columns: { child: string; parent: string; equals: string }[]
}

/** Foreign keys between touched tables that rows do not satisfy. They were valid in the source: none is expected. */
async function checkForeignKeys(session: Session, touched: ReadonlySet<string>): Promise<string[]> {
  const keys = await session.query<ForeignKey & Record<string, unknown>>(
    `select k.conname as name, k.conrelid::regclass::text as child, k.confrelid::regclass::text as parent,
       (select json_agg(json_build_object('child', ca.attname, 'parent', pa.attname, 'equals', format('operator(%I.%s)', n.nspname, o.oprname)))
        from unnest(k.conkey, k.confkey, k.conpfeqop) u (child, parent, equals)
        join pg_catalog.pg_attribute ca on ca.attrelid = k.conrelid and ca.attnum = u.child
        join pg_catalog.pg_attribute pa on pa.attrelid = k.confrelid and pa.attnum = u.parent
        join pg_catalog.pg_operator o on o.oid = u.equals join pg_catalog.pg_namespace n on n.oid = o.oprnamespace) as columns
     from pg_catalog.pg_constraint k
     where k.contype = 'f' and k.convalidated and k.conparentid = 0 and not coalesce((to_jsonb(k) ->> 'conperiod')::bool, false)
       and exists (
         select from unnest($1::regclass[]) t (relation)
         where t.relation in (k.conrelid, k.confrelid)
           or exists (select from pg_catalog.pg_partition_tree(k.conrelid) p where p.relid = t.relation)
           or exists (select from pg_catalog.pg_partition_tree(k.confrelid) p where p.relid = t.relation))`,
    [[...touched]],
  )
  const broken: string[] = []
  for (const key of keys) {
    const given = key.columns.map((column) => `c.${identifier(column.child)} is not null`).join(' and ')
    const equal = key.columns.map((column) => `p.${identifier(column.parent)} ${column.equals} c.${identifier(column.child)}`).join(' and ')
    const [orphan] = await session.query(
      `select from ${key.child} c where ${given} and not exists (select from ${key.parent} p where ${equal}) limit 1`,
    )
    if (orphan !== undefined)
      broken.push(`Foreign key ${literal(key.name)} of ${key.child}: rows refer to rows of ${key.parent} that are not there.`)
  }
  return broken
}
