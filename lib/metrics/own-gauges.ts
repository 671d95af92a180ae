import type { Context } from '../platform/context.ts'
import { environmentOf } from '../platform/environment.ts'
import { Batch, type Labels } from './batch.ts'
import { markOf, setMark } from './marks.ts'
import { ownMetrics } from './own-metrics.ts'
import { storeBatch } from './store-batch.ts'

/** Sizing a database reads the length of every file of it. */
const sizeEveryMs = 300_000

/** Looks at the database, at Caretaker's queues and at this process, and stores what they say. */
export async function askOwnGauges(ctx: Context): Promise<void> {
  const environment = environmentOf(ctx)
  const now = ctx.clock.now()
  const batch = new Batch()
  const add = (name: string, value: number | null, labels: Labels = {}, everySeconds?: number) => {
    const known = ownMetrics[name]
    if (known !== undefined && value !== null) batch.add({ name, labels, source: 'caretaker', ...known, everySeconds }, value, now)
  }
  const [row] = await ctx.db.query<Record<string, number | null>>(
    `select (select count(*) from pg_stat_activity where backend_type = 'client backend')::float8 as connections,
       current_setting('max_connections')::float8 as "mostConnections",
       (select count(*) from caretaker.runs where state in ('queued', 'dispatched'))::float8 as jobs,
       (select count(*) from caretaker.inbox where state = 'received')::float8 as webhooks,
       (select count(*) from caretaker.deliveries where state = 'waiting')::float8 as deliveries,
       (select count(*) from caretaker.inbox where state = 'dead')::float8 as "deadWebhooks",
       (select count(*) from caretaker.deliveries where state = 'dead')::float8 as "deadDeliveries",
       (select count(*) from caretaker.gdpr_requests where state in ('received', 'verified', 'in_progress', 'waiting'))::float8 as requests,
       (select count(*) from caretaker.gdpr_requests
        where state in ('received', 'verified', 'in_progress', 'waiting') and due_at < $1::timestamptz)::float8 as overdue,
       (select extract(epoch from $1::timestamptz - covered_until) from caretaker.backup_coverage)::float8 as "backupAge"`,
    [now],
  )
  if (row !== undefined) {
    add('database_connections', row.connections ?? null)
    add('database_connections_max', row.mostConnections ?? null)
    add('caretaker_jobs_waiting', row.jobs ?? null)
    add('caretaker_webhooks_waiting', row.webhooks ?? null)
    add('caretaker_deliveries_waiting', row.deliveries ?? null)
    add('caretaker_dead_letters', row.deadWebhooks ?? null, { kind: 'webhook' })
    add('caretaker_dead_letters', row.deadDeliveries ?? null, { kind: 'delivery' })
    add('caretaker_gdpr_open', row.requests ?? null)
    add('caretaker_gdpr_overdue', row.overdue ?? null)
    add('caretaker_backup_age_seconds', row.backupAge == null ? null : Math.max(0, row.backupAge))
  }
  add('process_resident_memory_bytes', process.memoryUsage.rss(), { service: 'caretaker' })
  const sized = await markOf(ctx, 'size')
  const sizeIsDue = sized === null || sized > now || now.getTime() - sized.getTime() >= sizeEveryMs - 30_000
  if (sizeIsDue) {
    const [size] = await ctx.db.query<{ bytes: number }>('select pg_database_size(current_database())::float8 as bytes')
    add('database_size_bytes', size?.bytes ?? null, {}, sizeEveryMs / 1_000)
  }
  await storeBatch(ctx.db, environment, batch, { now })
  if (sizeIsDue) await setMark(ctx.db, environment, 'size', now)
}
