import { type Checker, healthy, notConfigured, unhealthy } from '../checker.ts'

/** No event of a provider is a dead letter, none waits for a quarter of an hour, and no provider is silent that usually is not. */
export const webhooks: Checker = async (ctx, _check, signal) => {
  if (ctx.config.webhooks === undefined) return notConfigured
  const [row] = await ctx.db.probe<{ dead: number; waiting: number; late: number; silent: string[] }>(
    `select (count(*) filter (where state = 'dead'))::int as dead,
       (count(*) filter (where state = 'received'))::int as waiting,
       (count(*) filter (where state = 'received' and received_at < now() - interval '15 minutes'))::int as late,
       -- Providers switch an endpoint off quietly; the job webhooks-watch knows how much usually comes.
       array(select source from caretaker.webhook_sources where silent_since is not null order by source) as silent
     from caretaker.inbox where state in ('received', 'dead')`,
    [],
    signal,
  )
  const measures = { deadLetters: row?.dead ?? 0, waiting: row?.waiting ?? 0, waitingLong: row?.late ?? 0, silent: row?.silent ?? [] }
  if (measures.deadLetters > 0) return unhealthy('dead_letters', measures)
  if (measures.waitingLong > 0) return unhealthy('queue_stuck', measures)
  return measures.silent.length > 0 ? unhealthy('webhooks_silent', measures) : healthy(measures)
}
