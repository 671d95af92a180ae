import type { Context } from '../../platform/context.ts'
import { emitEvent } from '../../platform/outbox.ts'

/** Days before the deadline at which somebody is reminded. */
const reminders = [7, 2]

/**
 * Says, once each, that an open request is due in 7 and in 2 days, and that it is overdue: events `gdpr.due_soon` and
 * `gdpr.overdue`. One that was not looked at in time gets the most urgent word only.
 * @returns how many were said
 */
export async function remindDeadlines(ctx: Pick<Context, 'db' | 'clock'>): Promise<number> {
  const now = ctx.clock.now()
  return ctx.db.transaction(async (tx) => {
    const due = await tx.query<{ id: string; kind: string; dueAt: Date; days: number }>(
      `with reached as (
         select id, case when due_at <= $1::timestamptz then -1 else (
           select min(d) from unnest($2::int[]) as d where due_at <= $1::timestamptz + make_interval(days => d)) end as days
         from caretaker.gdpr_requests where state in ('received', 'verified', 'in_progress', 'waiting'))
       update caretaker.gdpr_requests r set reminded_days = reached.days from reached
       where r.id = reached.id and reached.days is not null and (r.reminded_days is null or r.reminded_days > reached.days)
       returning r.id, r.kind, r.due_at as "dueAt", r.reminded_days as days`,
      [now, reminders],
    )
    for (const { id, kind, dueAt, days } of due)
      await emitEvent(tx, days < 0 ? 'gdpr.overdue' : 'gdpr.due_soon', { request: id, kind, dueAt, ...(days < 0 ? {} : { days }) })
    return due.length
  })
}
