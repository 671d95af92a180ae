import { appsOwn, type Collector, type Finding, most, notOurs, objectName } from './finding.ts'

interface TableRow extends Record<string, unknown> {
  object: string
  sql: string
  rows: number
  bytes: number
  heapBytes: number
  deadRows: number
  expectedPages: number | null
  blockBytes: number
  lastVacuum: Date | null
  lastAutovacuum: Date | null
  lastAnalyze: Date | null
}

const mebibyte = 1_048_576

/**
 * Tables by their size: dead rows, when they were last vacuumed, and how much of the heap is estimated to be empty. The
 * estimate is what the rows would need (their mean width from the planner's statistics, with PostgreSQL's own overheads)
 * against what they take; it needs a recent ANALYZE, and says nothing where the role may not read the statistics.
 */
export const tables: Collector = {
  name: 'tables',
  title: 'Tables: dead rows and bloat (estimated)',
  async collect(db) {
    const rows = await db.query<TableRow>(
      `select ${objectName} as object, format('%I.%I', n.nspname, c.relname) as sql,
              greatest(c.reltuples, 0)::float8 as rows, pg_total_relation_size(c.oid)::float8 as bytes,
              pg_relation_size(c.oid)::float8 as "heapBytes", coalesce(s.n_dead_tup, 0)::float8 as "deadRows",
              b.size::float8 as "blockBytes",
              -- 24 bytes of header (more where there are nulls) and 4 of line pointer a row, 24 of header a page; all aligned to 8.
              case when c.reltuples > 0 and w.known = w.columns then
                ceil(c.reltuples * (ceil((23 + case when w.nulls then ceil(w.columns / 8.0) else 0 end) / 8.0) * 8 + ceil(w.width / 8.0) * 8 + 4)
                  / ((b.size - 24) * coalesce((select option_value::float8 from pg_options_to_table(c.reloptions) where option_name = 'fillfactor'), 100) / 100))
              end::float8 as "expectedPages",
              s.last_vacuum as "lastVacuum", s.last_autovacuum as "lastAutovacuum", greatest(s.last_analyze, s.last_autoanalyze) as "lastAnalyze"
       from pg_class c join pg_namespace n on n.oid = c.relnamespace
       left join pg_stat_all_tables s on s.relid = c.oid
       cross join (select current_setting('block_size')::int as size) b
       cross join lateral (
         select count(*) as columns, count(p.attname) as known, coalesce(sum((1 - p.null_frac) * p.avg_width), 0) as width,
                coalesce(bool_or(p.null_frac > 0), false) as nulls
         from pg_attribute a
         left join pg_stats p on p.schemaname = n.nspname and p.tablename = c.relname and p.attname = a.attname and not p.inherited
         where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
       ) w
       where c.relkind in ('r', 'm') and ${notOurs}
       order by pg_total_relation_size(c.oid) desc limit $1::int`,
      [most],
    )
    return { findings: rows.map(describeTable) }
  },
}

function describeTable(row: TableRow): Finding {
  const bloat = row.expectedPages === null ? null : Math.max(0, row.heapBytes - row.expectedPages * row.blockBytes)
  const deadShare = row.deadRows === 0 ? 0 : row.deadRows / (row.rows + row.deadRows)
  const bloatShare = bloat === null || row.heapBytes === 0 ? null : bloat / row.heapBytes
  const advice =
    deadShare > 0.2 && row.deadRows > 10_000
      ? `vacuum it: { vacuum: ['${row.object}'] }; if that leaves the dead rows, a long transaction or a replication slot keeps them`
      : bloatShare !== null && bloat !== null && bloatShare > 0.5 && bloat > 10 * mebibyte
        ? `half of it is empty, which new rows will fill; to give it back to the disk: pg_repack, or vacuum full ${row.sql} while nobody needs it`
        : row.lastAnalyze === null && row.rows !== 0
          ? `it was never analysed, so the planner guesses: { analyze: ['${row.object}'] }`
          : undefined
  return {
    object: row.object,
    figures: {
      bytes: row.bytes,
      rows: row.rows,
      dead_rows: row.deadRows,
      dead_share: share(deadShare),
      bloat_bytes: bloat,
      bloat_share: bloatShare === null ? null : share(bloatShare),
      last_vacuum: row.lastVacuum,
      last_autovacuum: row.lastAutovacuum,
      last_analyze: row.lastAnalyze,
    },
    ...(advice === undefined ? {} : { advice }),
  }
}

interface ScanRow extends Record<string, unknown> {
  object: string
  rows: number
  scans: number
  read: number
  indexScans: number
}

/** Big tables that are read from one end to the other again and again: some condition on them has no index. */
export const sequentialScans: Collector = {
  name: 'sequential-scans',
  title: 'Big tables that are read in full',
  async collect(db) {
    const rows = await db.query<ScanRow>(
      `select ${objectName} as object, greatest(c.reltuples, s.n_live_tup)::float8 as rows, s.seq_scan::float8 as scans,
              s.seq_tup_read::float8 as read, coalesce(s.idx_scan, 0)::float8 as "indexScans"
       from pg_stat_all_tables s join pg_class c on c.oid = s.relid join pg_namespace n on n.oid = c.relnamespace
       where ${appsOwn} and greatest(c.reltuples, s.n_live_tup) > 10000 and s.seq_scan > 10 and s.seq_tup_read / s.seq_scan > 5000
       order by s.seq_tup_read desc limit $1::int`,
      [most],
    )
    return {
      findings: rows.map((row) => ({
        object: row.object,
        figures: { rows: row.rows, sequential_scans: row.scans, rows_read: row.read, index_scans: row.indexScans },
        advice: `look for its slow statements below and for what their conditions have no index on`,
      })),
    }
  },
}

/** Tables by the age of their oldest transaction id: at two thousand million PostgreSQL stops writing. */
export const wraparound: Collector = {
  name: 'wraparound',
  title: 'Age of transaction ids',
  async collect(db) {
    const rows = await db.query<{ object: string; age: number; limit: number; sql: string }>(
      `select object, sql, age, "limit" from (
         select 'database ' || d.datname as object, '' as sql, age(d.datfrozenxid)::float8 as age, 0 as kind
         from pg_database d where d.datname = current_database()
         union all
         select object, sql, age, 1 from (
           select ${objectName} as object, format('%I.%I', n.nspname, c.relname) as sql, age(c.relfrozenxid)::float8 as age
           from pg_class c join pg_namespace n on n.oid = c.relnamespace
           where c.relkind in ('r', 'm') and ${notOurs} order by age(c.relfrozenxid) desc limit 5
         ) oldest
       ) ages, (select current_setting('autovacuum_freeze_max_age')::float8 as "limit") settings
       order by kind, age desc`,
    )
    return {
      findings: rows.map((row) => ({
        object: row.object,
        figures: { xid_age: row.age, share_of_freeze_max_age: share(row.age / row.limit), share_of_wraparound: share(row.age / 2 ** 31) },
        ...(row.age > 2 * row.limit
          ? {
              advice:
                row.sql === ''
                  ? 'autovacuum does not keep up: look for long transactions, prepared transactions and replication slots, then vacuum (freeze) the tables below'
                  : `vacuum (freeze) ${row.sql}`,
            }
          : {}),
      })),
    }
  },
}

/** Four digits are more than an estimate is worth. */
export function share(value: number): number {
  return Math.round(value * 10_000) / 10_000
}
