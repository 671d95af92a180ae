/*
 * What Caretaker tells of itself, as far as a policy can be held against it: which figures a metric has, and between what they lie.
 * The metrics themselves are lib/metrics' (own-metrics.ts, metric-query.ts); a test holds this list to them. What the app tells is not
 * known before it does, so that a name that is not here is no error.
 */

export interface KnownMetric {
  /** What may stand in `stat`; empty where the name says it already. */
  stats: readonly string[]
  /** A share lies between 0 and 1. Nothing here is ever negative. */
  share?: true
}

export const statsOfKind = {
  counter: ['sum', 'per_second'],
  gauge: ['last', 'average', 'max', 'min', 'sum'],
  histogram: ['average', 'max', 'min', 'sum', 'per_second', 'p50', 'p90', 'p95', 'p99'],
} as const

const counter: KnownMetric = { stats: statsOfKind.counter }
const gauge: KnownMetric = { stats: statsOfKind.gauge }
const histogram: KnownMetric = { stats: statsOfKind.histogram }

export const knownMetrics: Readonly<Record<string, KnownMetric>> = {
  'http.requests': counter,
  'http.error_rate': { stats: [], share: true },
  'http.p50': { stats: [] },
  'http.p90': { stats: [] },
  'http.p95': { stats: [] },
  'http.p99': { stats: [] },
  'auth.failed': counter,
  http_requests_total: counter,
  http_request_duration_seconds: histogram,
  process_resident_memory_bytes: gauge,
  process_cpu_seconds_total: counter,
  database_pool_waiting_count: gauge,
  database_size_bytes: gauge,
  database_connections: gauge,
  database_connections_max: gauge,
  log_lines_total: counter,
  caretaker_job_duration_seconds: histogram,
  caretaker_jobs_waiting: gauge,
  caretaker_webhooks_waiting: gauge,
  caretaker_deliveries_waiting: gauge,
  caretaker_dead_letters: gauge,
  caretaker_backup_age_seconds: gauge,
  caretaker_gdpr_open: gauge,
  caretaker_gdpr_overdue: gauge,
}

export function knownMetric(name: string): KnownMetric | undefined {
  return Object.hasOwn(knownMetrics, name) ? knownMetrics[name] : undefined
}
