import type { Context } from '../platform/context.ts'
import { environmentOf } from '../platform/environment.ts'
import { Batch } from './batch.ts'
import { ownMetrics } from './own-metrics.ts'
import { storeBatch } from './store-batch.ts'

/** Hosts send the lines of a minute in several batches, within minutes. */
const lookBackMs = 30 * 60_000

/**
 * Takes over what log drains have counted: requests by class of status, lines by level, with the host as the service. A
 * minute's count is set and not added to, so that looking twice changes nothing.
 */
export async function countLogs(ctx: Context): Promise<void> {
  const now = ctx.clock.now()
  const counts = await ctx.db.query<{ minute: Date; host: string; kind: string; count: number }>(
    'select minute, host, kind, count from caretaker.log_counts where minute >= $1::timestamptz and minute <= $2::timestamptz',
    [new Date(now.getTime() - lookBackMs), now],
  )
  const batch = new Batch()
  for (const { minute, host, kind, count } of counts) {
    const [, status] = /^http_(\d(?:xx|\d\d))$/.exec(kind) ?? []
    const [, level] = /^log_(\w+)$/.exec(kind) ?? []
    const name = status === undefined ? 'log_lines_total' : 'http_requests_total'
    const known = ownMetrics[name]
    if (known === undefined || (status ?? level) === undefined) continue
    const labels = status === undefined ? { service: host, level: level ?? '' } : { service: host, status }
    batch.add({ name, labels, source: 'logs', ...known }, count, minute)
  }
  await storeBatch(ctx.db, environmentOf(ctx), batch, { now, replace: true })
}
