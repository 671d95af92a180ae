import { identifier, type Queryable } from '../../../platform/db.ts'
import { sqlState } from '../../../platform/errors.ts'
import { withoutLiterals } from '../../statement.ts'
import { type Collector, type Finding, most } from './finding.ts'
import { share } from './tables.ts'

/** The database as a whole: size, cache, connections. */
export const overview: Collector = {
  name: 'database',
  title: 'The database',
  async collect(db) {
    const [row] = await db.query<Record<string, unknown>>(
      `select d.datname as name, pg_database_size(d.oid)::float8 as bytes, current_setting('server_version') as version,
              s.blks_hit::float8 as hit, s.blks_read::float8 as read, s.stats_reset as since, s.deadlocks::float8 as deadlocks,
              s.temp_bytes::float8 as "tempBytes", (select count(*) from pg_stat_activity where backend_type = 'client backend')::int as connections,
              current_setting('max_connections')::int as "maxConnections",
              (select sum(idx_blks_hit)::float8 from pg_statio_all_indexes) as "indexHit", (select sum(idx_blks_read)::float8 from pg_statio_all_indexes) as "indexRead"
       from pg_database d join pg_stat_database s on s.datid = d.oid where d.datname = current_database()`,
    )
    if (row === undefined) return { findings: [] }
    const n = (key: string) => Number(row[key] ?? 0)
    const cache = ratio(n('hit'), n('read'))
    const advice =
      cache !== null && cache < 0.95 && n('read') > 100_000
        ? 'more than one page in twenty comes from the disk: look at the slow statements and the tables that are read in full, or give the server more memory'
        : undefined
    return {
      findings: [
        {
          object: String(row.name),
          figures: {
            version: String(row.version),
            bytes: n('bytes'),
            cache_hit_ratio: cache,
            index_hit_ratio: ratio(n('indexHit'), n('indexRead')),
            connections: n('connections'),
            max_connections: n('maxConnections'),
            deadlocks: n('deadlocks'),
            temp_bytes: n('tempBytes'),
            counted_since: row.since instanceof Date ? row.since : null,
          },
          ...(advice === undefined ? {} : { advice }),
        },
      ],
    }
  },
}

function ratio(hit: number, read: number): number | null {
  return hit + read === 0 ? null : share(hit / (hit + read))
}

interface StatementRow extends Record<string, unknown> {
  id: string
  query: string
  calls: number
  total: number
  mean: number
  rows: number
  hit: number
  read: number
}

/** Statements by the time they took in all, from pg_stat_statements. Their texts are shown without the values in them. */
export const slowQueries: Collector = {
  name: 'slow-queries',
  title: 'Statements that take the most time',
  async collect(db) {
    const [extension] = await db.query<{ schema: string }>(
      `select n.nspname as schema from pg_extension e join pg_namespace n on n.oid = e.extnamespace where e.extname = 'pg_stat_statements'`,
    )
    if (extension === undefined)
      return {
        findings: [],
        note: 'pg_stat_statements is not installed. Load it (shared_preload_libraries; Supabase has it loaded), then: create extension pg_stat_statements with schema extensions',
      }
    let rows: StatementRow[]
    try {
      rows = await db.query<StatementRow>(
        `select queryid::text as id, left(query, 20000) as query, calls::float8 as calls, total_exec_time as total, mean_exec_time as mean,
                rows::float8 as rows, shared_blks_hit::float8 as hit, shared_blks_read::float8 as read
         from ${identifier(extension.schema)}.pg_stat_statements
         where dbid = (select oid from pg_database where datname = current_database()) and query !~* '^\\s*(begin|commit|rollback|set |show |discard|deallocate)'
         order by total_exec_time desc limit $1::int`,
        [most],
      )
    } catch (error) {
      if (sqlState(error) === '55000')
        return {
          findings: [],
          note: 'pg_stat_statements is installed but not loaded: add it to shared_preload_libraries and restart the server',
        }
      if (sqlState(error) === '42501')
        return { findings: [], note: `the role may not read pg_stat_statements: ${await grantOf(db, 'pg_read_all_stats')}` }
      throw error
    }
    const hidden = rows.filter((row) => row.query === '<insufficient privilege>').length
    return {
      findings: rows.map((row): Finding => {
        const text = row.query === '<insufficient privilege>' ? 'of another role' : cut(withoutLiterals(row.query))
        return {
          object: text,
          figures: {
            calls: row.calls,
            total_ms: Math.round(row.total),
            mean_ms: Math.round(row.mean * 100) / 100,
            rows: row.rows,
            cache_hit_ratio: ratio(row.hit, row.read),
            query_id: row.id,
          },
        }
      }),
      ...(hidden === 0
        ? {}
        : { note: `${hidden} statements of other roles are hidden from this one: ${await grantOf(db, 'pg_read_all_stats')}` }),
    }
  },
}

/** Long enough to tell statements apart. */
function cut(text: string): string {
  return text.length > 400 ? `${text.slice(0, 399)}…` : text
}

interface SessionRow extends Record<string, unknown> {
  object: string
  kind: string
  role: string | null
  application: string | null
  state: string | null
  ageMs: number
  waiting: string | null
}

/** A transaction longer than this keeps VACUUM from its work for no good reason, in minutes. */
const longMinutes = 5

/** What keeps dead rows alive: transactions open for long, prepared ones that nobody ends, replication slots that nobody reads. */
export const longTransactions: Collector = {
  name: 'long-transactions',
  title: 'Long transactions, and what else keeps dead rows',
  async collect(db) {
    const rows = await db.query<SessionRow>(
      `select 'session ' || a.pid as object, 'session' as kind, a.usename::text as role, a.application_name as application, a.state,
              extract(epoch from clock_timestamp() - a.xact_start)::float8 * 1000 as "ageMs", a.wait_event_type as waiting
       from pg_stat_activity a
       where a.xact_start < clock_timestamp() - make_interval(mins => $1::int) and a.pid <> pg_backend_pid() and a.backend_type <> 'autovacuum worker'
         and a.datname = current_database()
       union all
       select 'prepared ' || p.transaction::text, 'prepared', p.owner::text, null, 'prepared', extract(epoch from clock_timestamp() - p.prepared)::float8 * 1000, null
       from pg_prepared_xacts p where p.database = current_database()
       union all
       select 'slot ' || r.slot_name, 'slot', null, null, case when r.active then 'active' else 'inactive' end,
              null, pg_wal_lsn_diff(case when pg_is_in_recovery() then pg_last_wal_replay_lsn() else pg_current_wal_lsn() end, r.restart_lsn)::text
       from pg_replication_slots r where not r.active or r.xmin is not null
       order by "ageMs" desc nulls last limit $2::int`,
      [longMinutes, most],
    )
    const [shy] = await db.query<{ hidden: boolean }>(
      `select not pg_has_role('pg_read_all_stats', 'usage') and not (select rolsuper from pg_roles where rolname = current_user) as hidden`,
    )
    return {
      findings: rows.map((row) => ({
        object: row.object,
        figures:
          row.kind === 'slot'
            ? { kind: row.kind, role: null, application: null, state: row.state, age_ms: null, kept_wal_bytes: Number(row.waiting ?? 0) }
            : {
                kind: row.kind,
                role: row.role,
                application: row.application,
                state: row.state,
                age_ms: Math.round(row.ageMs),
                kept_wal_bytes: null,
              },
        advice: advice(row),
      })),
      ...(shy?.hidden === true
        ? { note: `sessions of other roles are hidden from this one: ${await grantOf(db, 'pg_read_all_stats')}` }
        : {}),
    }
  },
}

function advice(row: SessionRow): string {
  if (row.kind === 'prepared') return `end it: rollback prepared, by its name in pg_prepared_xacts`
  if (row.kind === 'slot')
    return row.state === 'inactive'
      ? 'nobody reads it: start its reader, or drop it with pg_drop_replication_slot'
      : 'it keeps old rows for its reader'
  return row.state?.startsWith('idle in transaction') === true
    ? `it does nothing and keeps its snapshot: select pg_terminate_backend(${row.object.replace(/\D/g, '')})`
    : 'dead rows that are younger than it stay until it ends'
}

async function grantOf(db: Queryable, role: string): Promise<string> {
  const [row] = await db.query<{ role: string }>('select current_user as role')
  return `grant ${role} to ${identifier(row?.role ?? 'current_user')}`
}
