import { createHash } from 'node:crypto'
import { identifier, type Session } from '../../platform/db.ts'
import { literal } from '../sequences.ts'
import { patiently, restoreSchema } from './journal.ts'
import type { ForeignKey } from './post-data.ts'

/*
 * While an app already works with the first tables, the others are closed: what it wrote there would be lost, or in the way. A
 * trigger refuses it, whoever it is. And of an open table nothing may be deleted that a closed one refers to.
 */

const gate = 'caretaker_restore_gate'
const guard = 'caretaker_restore_guard'
/** Tables that one transaction touches: a server has some thousand locks. */
const batch = 200

/** The right to close and guard what is asked for; otherwise what is missing. */
export async function mayClose(session: Session, tables: readonly string[], guarded: readonly string[]): Promise<string | null> {
  const [row] = await session.query<{ language: boolean; missing: string | null }>(
    `select exists (select from pg_catalog.pg_language where lanname = 'plpgsql') as language,
       (select string_agg(c.oid::regclass::text, ', ' order by c.oid) from pg_catalog.pg_class c
        where c.oid = any ($1::text[]::regclass[]) and not pg_has_role(c.relowner, 'usage')
          or c.oid = any ($2::text[]::regclass[]) and not has_table_privilege(c.oid, 'trigger')) as missing`,
    [tables, guarded],
  )
  if (row?.language !== true) return 'the target has no PL/pgSQL'
  return row.missing === null ? null : `this role may not make triggers on ${row.missing}`
}

/** Closes tables, and takes from other roles what default privileges of the target have given them. May be repeated. */
export async function closeTables(session: Session, tables: readonly string[]): Promise<void> {
  await session.execute(
    `create or replace function ${restoreSchema}.gate() returns trigger language plpgsql set search_path = '' as ${literal(`begin
  raise exception using errcode = 'object_not_in_prerequisite_state',
    message = format('%I.%I is being restored from a backup and is not open yet', tg_table_schema, tg_table_name);
end`)}`,
  )
  for (let at = 0; at < tables.length; at += batch)
    await session.execute(
      `do ${literal(`declare one text; grantee text; begin
         foreach one in array ${array(tables.slice(at, at + batch))} loop
           execute 'create or replace trigger ${gate} before insert or update or delete or truncate on ' || one || ' for each statement execute function ${restoreSchema}.gate()';
           for grantee in select distinct case a.grantee when 0 then 'public' else quote_ident(pg_get_userbyid(a.grantee)) end
             from pg_catalog.pg_class c, pg_catalog.aclexplode(c.relacl) a where c.oid = one::regclass and a.grantee <> c.relowner
           loop execute 'revoke all on ' || one || ' from ' || grantee || ' cascade'; end loop;
         end loop;
       end`)}`,
    )
}

/** Statements that let the restore's own rows into a closed table, in their transaction. */
export function throughGate(table: string): { before: string; after: string } {
  return { before: `alter table ${table} disable trigger ${gate}`, after: `alter table ${table} enable trigger ${gate}` }
}

/** May be repeated. */
export async function openTables(session: Session, tables: readonly string[]): Promise<void> {
  for (let at = 0; at < tables.length; at += batch)
    await patiently(() =>
      session.execute(
        `do ${literal(`declare one text; begin
           foreach one in array ${array(tables.slice(at, at + batch))} loop execute 'drop trigger if exists ${gate} on ' || one; end loop;
         end`)}`,
      ),
    )
}

/** Open tables of which nothing may be deleted, by foreign keys whose child is closed. */
export function guardedBy(foreignKeys: readonly ForeignKey[], isOpen: (table: string) => boolean): Map<string, ForeignKey[]> {
  const guards = new Map<string, ForeignKey[]>()
  for (const key of foreignKeys)
    if (isOpen(key.parent) && !isOpen(key.child)) guards.set(key.parent, [...(guards.get(key.parent) ?? []), key])
  return guards
}

/** Makes the guards of one table as they must be now; none where nothing that is closed refers to it. May be repeated. */
export async function setGuard(session: Session, table: string, keys: readonly ForeignKey[]): Promise<void> {
  const name = `${restoreSchema}.guard_${createHash('sha256').update(table).digest('hex').slice(0, 16)}`
  const drop = `drop function if exists ${name}() cascade`
  if (keys.length === 0) {
    await patiently(() => session.execute(drop))
    return
  }
  const columns = [...new Set(keys.flatMap((key) => key.parentColumns))].map(identifier)
  const children = [...new Set(keys.map((key) => key.child))].join(', ')
  // A role that may make triggers may still not drop them: but its function takes them along.
  await patiently(() =>
    session.client.query(`${drop};
create function ${name}() returns trigger language plpgsql set search_path = '' as ${literal(`begin
  raise exception using errcode = 'object_not_in_prerequisite_state', message = format(
    'rows of %I.%I may not be deleted, nor their keys changed, until what refers to them is restored: %s', tg_table_schema, tg_table_name, ${literal(children)});
end`)};
create trigger ${guard}_delete before delete on ${table} for each row execute function ${name}();
create trigger ${guard}_truncate before truncate on ${table} for each statement execute function ${name}();
create trigger ${guard}_update before update of ${columns.join(', ')} on ${table} for each row
  when ((${columns.map((column) => `old.${column}`).join(', ')}) is distinct from (${columns.map((column) => `new.${column}`).join(', ')})) execute function ${name}()`),
  )
}

/** Each name as a literal; names are as `qualified` writes them. */
function array(names: readonly string[]): string {
  return `array[${names.map(literal).join(', ')}]::text[]`
}
