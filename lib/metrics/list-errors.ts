import type { Context } from '../platform/context.ts'
import { environmentOf } from '../platform/environment.ts'
import { CaretakerError } from '../platform/errors.ts'
import { describeError } from '../platform/log.ts'
import { findSeries } from './find-series.ts'
import { readSums } from './measure.ts'

export interface ErrorEntry {
  at: Date
  /** What Caretaker saw: a job, a webhook, a delivery, a health check; `app`: what the app itself wrote down. */
  source: 'job' | 'webhook' | 'delivery' | 'health' | 'app'
  what: string
  message: string
}

export interface ErrorReport {
  from: string
  to: string
  /** Newest first, at most the limit. */
  entries: ErrorEntry[]
  /** Answers with 5xx, by who gave them. */
  requests: { service: string; route: string; status: string; count: number }[]
  /** Lines that a log drain called errors. */
  logs: { service: string; level: string; count: number }[]
  /** Why the app's own errors could not be read, where they could not. */
  note?: string
}

/**
 * What went wrong since `from`: failed jobs, events and messages that were given up, checks that went down, 5xx by route,
 * error lines of log drains and, where `metrics.errors` says how, the app's own errors.
 */
export async function listErrors(ctx: Context, { from, to, limit }: { from: Date; to: Date; limit: number }): Promise<ErrorReport> {
  const known = await ctx.db.query<ErrorEntry & Record<string, unknown>>(
    `select * from (
       (select finished_at as at, 'job' as source, job as what, coalesce(error ->> 'detail', error ->> 'code', 'failed') as message
        from caretaker.runs where state = 'failed' and finished_at >= $1::timestamptz and finished_at <= $2::timestamptz
        order by finished_at desc limit $4::int)
       union all
       (select received_at, 'webhook', source || ' ' || type, coalesce(error ->> 'detail', error ->> 'code', 'given up')
        from caretaker.inbox where state = 'dead' and received_at >= $1::timestamptz and received_at <= $2::timestamptz
        order by received_at desc limit $4::int)
       union all
       (select created_at, 'delivery', subscriber, coalesce(error ->> 'detail', error ->> 'code', 'given up')
        from caretaker.deliveries where state = 'dead' and created_at >= $1::timestamptz and created_at <= $2::timestamptz
        order by created_at desc limit $4::int)
       union all
       (select at, 'health', check_name, coalesce(cause, 'down')
        from caretaker.health_changes
        where environment = $3::text and status = 'down' and at >= $1::timestamptz and at <= $2::timestamptz
        order by at desc limit $4::int)
     ) as entries order by at desc limit $4::int`,
    [from, to, environmentOf(ctx), limit],
  )
  const app = await appErrors(ctx, from, limit).catch((error: unknown) => String(describeError(error).message))
  const requests = await counted(ctx, 'http_requests_total', ['service', 'route', 'status'], from, to)
  const logs = await counted(ctx, 'log_lines_total', ['service', 'level'], from, to)
  return {
    from: from.toISOString(),
    to: to.toISOString(),
    entries: [...known, ...(typeof app === 'string' ? [] : app)].sort((a, b) => b.at.getTime() - a.at.getTime()).slice(0, limit),
    requests: requests
      .filter(({ labels }) => labels.status?.startsWith('5') === true)
      .map(({ labels: { service = '', route = '', status = '' }, count }) => ({ service: service || 'app', route, status, count })),
    logs: logs
      .filter(({ labels }) => /^(err|crit|alert|emerg|fatal|panic)/.test(labels.level ?? ''))
      .map(({ labels: { service = '', level = '' }, count }) => ({ service, level, count })),
    ...(typeof app === 'string' ? { note: `metrics.errors.sql: ${app}` } : {}),
  }
}

/** The policy's query with :since filled in; columns `at` and `message`, and `what` where it has one. */
export async function appErrors(ctx: Context, since: Date, limit: number): Promise<ErrorEntry[]> {
  const policy = ctx.config.metrics?.errors
  if (policy === undefined) return []
  const uses = /(?<![:\w]):since\b/.test(policy.sql)
  const sql = policy.sql.replaceAll(/(?<![:\w]):since\b/g, '$1::timestamptz').replace(/;\s*$/, '')
  const rows = await ctx.db.transaction(
    (tx) => tx.query(`select * from (${sql}\n) as answer order by at desc limit ${Math.trunc(limit)}`, uses ? [since] : []),
    { readOnly: true, statementTimeoutMs: 10_000, lockTimeoutMs: 2_000 },
  )
  return rows.flatMap(({ at, message, what }): ErrorEntry[] => {
    if (!(at instanceof Date)) throw new CaretakerError('policy_invalid', 'the column "at" is not a time with its zone')
    return at < since ? [] : [{ at, source: 'app', what: String(what ?? ''), message: String(message ?? '') }]
  })
}

async function counted(ctx: Context, metric: string, by: readonly string[], from: Date, to: Date) {
  const found = await findSeries(ctx, { metric, where: {}, from: 'any' }, by)
  const figures = await readSums(ctx, found, from.getTime(), to)
  return found.groups
    .map(({ labels }, index) => ({ labels: labels as Record<string, string | undefined>, count: figures[index]?.sum ?? 0 }))
    .filter(({ count }) => count > 0)
    .sort((a, b) => b.count - a.count)
}
