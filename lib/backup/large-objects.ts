import type { Session } from '../platform/db.ts'
import { identifier } from '../platform/db.ts'
import { literal } from './sequences.ts'

/*
 * Large objects are data to pg_dump. Here they are rows of (object, offset, bytes), read through functions that their
 * owner may call, and put back from a temporary table: COPY is all that is needed on either side.
 */

/** Bytes of an object one row carries: twice that as text. */
const chunkBytes = 262_144

/** How many there are. A role that may not read one fails here, by name, not half-way. */
export async function countLargeObjects(session: Session): Promise<number> {
  const [row] = await session.query<{ count: number }>('select count(*)::float8 as count from pg_catalog.pg_largeobject_metadata')
  return row?.count ?? 0
}

/**
 * Empty objects have one row with no bytes. 262144 is INV_READ. Every step takes the oid along: handles are numbers that
 * come again, and PostgreSQL 14 to 16 may remember (Memoize) what a step gave for a number, which was another object's size.
 */
export const copyLargeObjectsOut = `copy (
  select m.oid, part * ${chunkBytes}::int8, pg_catalog.lo_get(m.oid, part * ${chunkBytes}::int8, ${chunkBytes})
  from pg_catalog.pg_largeobject_metadata m
  cross join lateral (select pg_catalog.lo_open(m.oid, 262144) as handle offset 0) opened
  cross join lateral (select pg_catalog.lo_lseek64(handle, 0, 2) + 0 * m.oid::int8 as bytes offset 0) sought
  cross join lateral (select pg_catalog.lo_close(handle) + 0 * bytes + 0 * m.oid::int8 as closed offset 0) closed
  cross join lateral pg_catalog.generate_series(closed * 0, (greatest(bytes - 1, 0) + 0 * m.oid::int8) / ${chunkBytes}) part
  order by m.oid, part
) to stdout`

export const largeObjectPrelude = ['create temporary table caretaker_large_objects (id oid, position int8, content bytea);']

export const copyLargeObjectsIn = 'copy pg_temp.caretaker_large_objects from stdin'

export const largeObjectTail = [
  'select count(pg_catalog.lo_create(id)) from (select distinct id from pg_temp.caretaker_large_objects) made;',
  'select count(*) from (select pg_catalog.lo_put(id, position, content) from pg_temp.caretaker_large_objects order by id, position offset 0) filled;',
  'drop table pg_temp.caretaker_large_objects;\n',
].join('\n')

/** Owners, grants and comments of large objects, as statements. */
export async function largeObjectSql(session: Session, count: number): Promise<string> {
  if (count === 0) return ''
  const rows = await session.query<{
    oid: string
    owner: string
    comment: string | null
    grants: { grantee: string; privilege: string; grantable: boolean }[] | null
  }>(
    `select m.oid::text as oid, pg_get_userbyid(m.lomowner)::text as owner, pg_catalog.obj_description(m.oid, 'pg_largeobject') as comment,
       (select json_agg(json_build_object('grantee', case a.grantee when 0 then '' else pg_get_userbyid(a.grantee)::text end, 'privilege', a.privilege_type, 'grantable', a.is_grantable))
        from pg_catalog.aclexplode(m.lomacl) a where a.grantee <> m.lomowner) as grants
     from pg_catalog.pg_largeobject_metadata m order by m.oid`,
  )
  const lines = rows.flatMap((row) => [
    `alter large object ${row.oid} owner to ${identifier(row.owner)};`,
    ...(row.comment === null ? [] : [`comment on large object ${row.oid} is ${literal(row.comment)};`]),
    ...(row.grants ?? []).map(
      (grant) =>
        `grant ${grant.privilege.toLowerCase()} on large object ${row.oid} to ${grant.grantee === '' ? 'public' : identifier(grant.grantee)}${grant.grantable ? ' with grant option' : ''};`,
    ),
  ])
  return `${lines.join('\n')}\n`
}
