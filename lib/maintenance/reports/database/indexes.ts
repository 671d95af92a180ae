import { appsOwn, type Collector, most, objectName } from './finding.ts'
import { share } from './tables.ts'

interface IndexRow extends Record<string, unknown> {
  object: string
  table: string
  bytes: number
  scans: number
  expectedPages: number | null
  blockBytes: number
}

/**
 * B-tree indexes by their size, with how much is estimated to be empty: what their entries would need at the fill factor
 * against what they take. Entries of one value share their key since PostgreSQL 13; the estimate counts with that for
 * indexes of one column.
 */
export const indexBloat: Collector = {
  name: 'index-bloat',
  title: 'B-tree indexes: bloat (estimated)',
  async collect(db) {
    const rows = await db.query<IndexRow>(
      `select ${objectName} as object, t.relname as table, pg_relation_size(c.oid)::float8 as bytes,
              coalesce(s.idx_scan, 0)::float8 as scans, b.size::float8 as "blockBytes",
              -- 8 bytes of header and 4 of line pointer an entry, 40 of header and special space a page, 1 % for the upper levels.
              case when c.reltuples > 0 and w.known = i.indnkeyatts then
                1 + ceil(1.01 * (
                  case when w.shared is null or i.indisunique then c.reltuples * (8 + ceil(w.width / 8.0) * 8 + 4)
                       else w.shared * (8 + ceil(w.width / 8.0) * 8 + 4) + greatest(c.reltuples - w.shared, 0) * 6 end
                ) / ((b.size - 40) * coalesce((select option_value::float8 from pg_options_to_table(c.reloptions) where option_name = 'fillfactor'), 90) / 100))
              end::float8 as "expectedPages"
       from pg_index i join pg_class c on c.oid = i.indexrelid join pg_namespace n on n.oid = c.relnamespace
       join pg_class t on t.oid = i.indrelid join pg_am m on m.oid = c.relam
       left join pg_stat_all_indexes s on s.indexrelid = c.oid
       cross join (select current_setting('block_size')::int as size) b
       cross join lateral (
         select count(p.attname) as known, coalesce(sum((1 - p.null_frac) * p.avg_width), 0) as width,
                case when i.indnatts = 1 then max(case when p.n_distinct < 0 then -p.n_distinct * c.reltuples else p.n_distinct end) end as shared
         from generate_series(1, i.indnatts) as k(position)
         -- An expression has its statistics under the index's own name.
         left join pg_attribute x on x.attrelid = case when i.indkey[k.position - 1] = 0 then i.indexrelid else i.indrelid end
           and x.attnum = case when i.indkey[k.position - 1] = 0 then k.position else i.indkey[k.position - 1] end
         left join pg_stats p on p.schemaname = n.nspname and p.attname = x.attname and not p.inherited
           and p.tablename = case when i.indkey[k.position - 1] = 0 then c.relname else t.relname end
       ) w
       where c.relkind = 'i' and i.indisvalid and m.amname = 'btree' and ${appsOwn}
       order by pg_relation_size(c.oid) desc limit $1::int`,
      [most],
    )
    return {
      findings: rows.map((row) => {
        const bloat = row.expectedPages === null ? null : Math.max(0, row.bytes - row.expectedPages * row.blockBytes)
        const part = bloat === null || row.bytes === 0 ? null : share(bloat / row.bytes)
        return {
          object: row.object,
          figures: { table: row.table, bytes: row.bytes, bloat_bytes: bloat, bloat_share: part, scans: row.scans },
          ...(part !== null && part > 0.5 && (bloat ?? 0) > 1_048_576 ? { advice: `rebuild it: { reindex: ['${row.object}'] }` } : {}),
        }
      }),
    }
  },
}

/** Indexes that no query has read since the statistics began: each write keeps them up. Not those that hold a constraint. */
export const unusedIndexes: Collector = {
  name: 'unused-indexes',
  title: 'Indexes that nothing reads',
  async collect(db) {
    const rows = await db.query<{ object: string; table: string; bytes: number; sql: string; since: Date | null }>(
      `select ${objectName} as object, t.relname as table, pg_relation_size(c.oid)::float8 as bytes,
              format('%I.%I', n.nspname, c.relname) as sql, d.stats_reset as since
       from pg_stat_all_indexes s join pg_index i on i.indexrelid = s.indexrelid join pg_class c on c.oid = i.indexrelid
       join pg_namespace n on n.oid = c.relnamespace join pg_class t on t.oid = i.indrelid, pg_stat_database d
       where d.datname = current_database() and s.idx_scan = 0 and i.indisvalid and not i.indisunique and not i.indisexclusion
         and not i.indisreplident and ${appsOwn}
         and not exists (select from pg_constraint k where k.conindid = i.indexrelid)
         -- A foreign key's children are looked up by it, though nothing was deleted yet.
         and not exists (select from pg_constraint k where k.contype = 'f' and k.conrelid = i.indrelid and k.conkey[1] = i.indkey[0])
       order by pg_relation_size(c.oid) desc limit $1::int`,
      [most],
    )
    return {
      findings: rows.map((row) => ({
        object: row.object,
        figures: { table: row.table, bytes: row.bytes, counted_since: row.since },
        advice: `if no replica reads it either, and the statistics cover your rarest query: drop index concurrently ${row.sql}`,
      })),
    }
  },
}

/** Indexes that another one does the work of: the same columns in the same way, or the first columns of a longer one. */
export const duplicateIndexes: Collector = {
  name: 'duplicate-indexes',
  title: 'Indexes that another one makes superfluous',
  async collect(db) {
    const rows = await db.query<{ object: string; table: string; bytes: number; other: string; same: boolean; sql: string }>(
      `with described as (
         select i.*, c.relname, n.nspname, c.relam, m.amname, t.relname as tablename,
                i.indkey::int2[] as keys, i.indclass::oid[] as classes, i.indcollation::oid[] as collations, i.indoption::int2[] as options,
                coalesce(pg_get_expr(i.indpred, i.indrelid), '') as predicate, coalesce(pg_get_expr(i.indexprs, i.indrelid), '') as expressions
         from pg_index i join pg_class c on c.oid = i.indexrelid join pg_namespace n on n.oid = c.relnamespace
         join pg_am m on m.oid = c.relam join pg_class t on t.oid = i.indrelid
         where i.indisvalid and c.relkind = 'i' and ${appsOwn}
       )
       select distinct on (s.indexrelid) case when s.nspname = 'public' then '' else s.nspname || '.' end || s.relname as object,
              s.tablename as table, pg_relation_size(s.indexrelid)::float8 as bytes, o.relname as other,
              s.indnatts = o.indnatts as same, format('%I.%I', s.nspname, s.relname) as sql
       from described s join described o on o.indrelid = s.indrelid and o.indexrelid <> s.indexrelid
         and o.relam = s.relam and o.predicate = s.predicate
       where not s.indisreplident and not exists (select from pg_constraint k where k.conindid = s.indexrelid)
         and (
           -- The same in everything; of two, the one that does not enforce uniqueness goes, else the later one.
           (o.keys = s.keys and o.classes = s.classes and o.collations = s.collations and o.options = s.options and o.expressions = s.expressions
            and o.indnkeyatts = s.indnkeyatts
            and (o.indisunique and not s.indisunique
                 or o.indisunique = s.indisunique
                    and (o.indexrelid < s.indexrelid or exists (select from pg_constraint k where k.conindid = o.indexrelid))))
           -- The first columns of a longer one, in the same order.
           or (s.amname = 'btree' and not s.indisunique and s.expressions = '' and s.indnatts = s.indnkeyatts and o.indnkeyatts > s.indnkeyatts
               and o.keys[0:s.indnkeyatts - 1] = s.keys[0:s.indnkeyatts - 1] and o.classes[0:s.indnkeyatts - 1] = s.classes[0:s.indnkeyatts - 1]
               and o.collations[0:s.indnkeyatts - 1] = s.collations[0:s.indnkeyatts - 1] and o.options[0:s.indnkeyatts - 1] = s.options[0:s.indnkeyatts - 1])
         )
       order by s.indexrelid, s.indnatts = o.indnatts desc, o.indexrelid`,
    )
    rows.sort((a, b) => b.bytes - a.bytes)
    return {
      findings: rows.slice(0, most).map((row) => ({
        object: row.object,
        figures: { table: row.table, bytes: row.bytes, covered_by: row.other, how: row.same ? 'the same' : 'its first columns' },
        advice: `drop index concurrently ${row.sql}`,
      })),
    }
  },
}

/** Indexes that a broken rebuild or creation left behind: no query reads them, every write keeps them up. */
export const invalidIndexes: Collector = {
  name: 'invalid-indexes',
  title: 'Indexes left unfinished',
  async collect(db) {
    const rows = await db.query<{ object: string; table: string; bytes: number; sql: string; building: boolean }>(
      `select ${objectName} as object, t.relname as table, pg_relation_size(c.oid)::float8 as bytes, format('%I.%I', n.nspname, c.relname) as sql,
              exists (select from pg_stat_progress_create_index p where p.relid = i.indrelid) as building
       from pg_index i join pg_class c on c.oid = i.indexrelid join pg_namespace n on n.oid = c.relnamespace
       join pg_class t on t.oid = i.indrelid
       where not i.indisvalid and c.relkind = 'i' and n.nspname not in ('pg_catalog', 'information_schema') and n.nspname !~ '^pg_temp'
       order by pg_relation_size(c.oid) desc limit $1::int`,
      [most],
    )
    return {
      findings: rows.map((row) => ({
        object: row.object,
        figures: { table: row.table, bytes: row.bytes, being_built: row.building },
        advice: row.building
          ? 'an index of this table is being built right now: look again when it is done'
          : `drop index concurrently ${row.sql}`,
      })),
    }
  },
}

/** Foreign keys whose columns no index begins with: every deletion of a parent reads the whole child. */
export const foreignKeysWithoutIndex: Collector = {
  name: 'foreign-keys-without-index',
  title: 'Foreign keys without an index',
  async collect(db) {
    const rows = await db.query<{ object: string; constraint: string; parent: string; rows: number; bytes: number; sql: string }>(
      `select ${objectName} as object, k.conname as constraint, k.confrelid::regclass::text as parent, greatest(c.reltuples, 0)::float8 as rows,
              pg_table_size(c.oid)::float8 as bytes,
              format('create index concurrently on %I.%I (%s)', n.nspname, c.relname,
                     (select string_agg(format('%I', a.attname), ', ' order by p.n) from unnest(k.conkey) with ordinality as p(num, n)
                      join pg_attribute a on a.attrelid = k.conrelid and a.attnum = p.num)) as sql
       from pg_constraint k join pg_class c on c.oid = k.conrelid join pg_namespace n on n.oid = c.relnamespace
       where k.contype = 'f' and k.conparentid = 0 and ${appsOwn}
         and not exists (
           select from pg_index i where i.indrelid = k.conrelid and i.indisvalid and i.indpred is null
             and (select array_agg(i.indkey[g] order by i.indkey[g]) from generate_series(0, cardinality(k.conkey) - 1) as g)
               = (select array_agg(num order by num) from unnest(k.conkey) as num))
       order by pg_table_size(c.oid) desc, k.conname limit $1::int`,
      [most],
    )
    return {
      findings: rows.map((row) => ({
        object: `${row.object}.${row.constraint}`,
        figures: { refers_to: row.parent, rows: row.rows, bytes: row.bytes },
        advice: row.sql,
      })),
    }
  },
}
