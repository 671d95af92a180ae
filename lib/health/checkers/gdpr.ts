import { type Checker, healthy, notConfigured, unhealthy } from '../checker.ts'

/** No request of a person is overdue, and the last look for undescribed personal data found none. Reads Caretaker's own tables. */
export const gdpr: Checker = async (ctx, _check, signal) => {
  if (ctx.config.gdpr === undefined) return notConfigured
  const [found] = await ctx.db.probe<{ open: number; overdue: number; soon: number; findings: number | null }>(
    `select count(*)::int as open,
       (count(*) filter (where due_at <= now()))::int as overdue,
       (count(*) filter (where due_at > now() and due_at <= now() + interval '2 days'))::int as soon,
       (select (result ->> 'findings')::int from caretaker.runs where job = 'gdpr-lint' and state = 'done' order by slot desc limit 1) as findings
     from caretaker.gdpr_requests where state in ('received', 'verified', 'in_progress', 'waiting')`,
    [],
    signal,
  )
  const measures = {
    open: found?.open ?? 0,
    overdue: found?.overdue ?? 0,
    dueWithinTwoDays: found?.soon ?? 0,
    lintFindings: found?.findings ?? 0,
  }
  if (measures.overdue > 0) return unhealthy('gdpr_overdue', measures)
  return measures.lintFindings > 0 ? unhealthy('gdpr_undescribed', measures) : healthy(measures)
}
