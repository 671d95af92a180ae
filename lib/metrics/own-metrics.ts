import type { MetricKind } from './figures.ts'

interface OwnMetric {
  kind: MetricKind
  unit?: string
  help: string
}

/** What Caretaker's own clock and worker are called, whose answers nobody waits for. */
export const clockService = 'caretaker-clock'

/** Series that Caretaker tells of itself, whatever the policy says. */
export const ownMetrics: Readonly<Record<string, OwnMetric>> = {
  http_requests_total: { kind: 'counter', help: 'Requests answered, by method, route and status.' },
  http_request_duration_seconds: {
    kind: 'histogram',
    unit: 'seconds',
    help: 'Time from a request to its answer, by method, route and status.',
  },
  process_resident_memory_bytes: { kind: 'gauge', unit: 'bytes', help: 'Memory of a function instance.' },
  process_cpu_seconds_total: { kind: 'counter', unit: 'seconds', help: 'Processor time of function instances, user and system.' },
  database_pool_waiting_count: { kind: 'gauge', help: 'Requests of an instance that wait for a connection of its pool.' },
  database_size_bytes: { kind: 'gauge', unit: 'bytes', help: 'Size of the database on disk.' },
  database_connections: { kind: 'gauge', help: 'Connections to the database server, by its own count.' },
  database_connections_max: { kind: 'gauge', help: 'Connections the database server allows.' },
  log_lines_total: { kind: 'counter', help: 'Lines of the host’s log drain, by service and level.' },
  caretaker_job_duration_seconds: { kind: 'histogram', unit: 'seconds', help: 'Time a job worked, by job and state.' },
  caretaker_jobs_waiting: { kind: 'gauge', help: 'Runs of jobs that wait for a worker.' },
  caretaker_webhooks_waiting: { kind: 'gauge', help: 'Webhook events received and not yet applied.' },
  caretaker_deliveries_waiting: { kind: 'gauge', help: 'Messages to subscribers that are not delivered yet.' },
  caretaker_dead_letters: { kind: 'gauge', help: 'Events and messages that were given up, by kind.' },
  caretaker_backup_age_seconds: { kind: 'gauge', unit: 'seconds', help: 'Since the state that the newest backup or increment holds.' },
  caretaker_gdpr_open: { kind: 'gauge', help: 'Requests of data subjects that are open.' },
  caretaker_gdpr_overdue: { kind: 'gauge', help: 'Requests of data subjects past their deadline.' },
}
