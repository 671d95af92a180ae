import { type Checker, healthy, notConfigured, unhealthy } from '../checker.ts'

/** No event of a provider is a dead letter, and none waits for a quarter of an hour. */
export const webhooks: Checker = async (ctx, _check, signal) => {
  if (ctx.config.webhooks === undefined) return notConfigured
  const [row] = await ctx.db.probe<{ dead: number; waiting: number; late: number }>(
    `select (count(*) filter (where state = 'dead'))::int as dead,
       (count(*) filter (where state = 'received'))::int as waiting,
       (count(*) filter (where state = 'received' and received_at < now() - interval '15 minutes'))::int as late
     from caretaker.inbox where state in ('received', 'dead')`,
    [],
    signal,
  )
  const measures = { deadLetters: row?.dead ?? 0, waiting: row?.waiting ?? 0, waitingLong: row?.late ?? 0 }
  if (measures.deadLetters > 0) return unhealthy('dead_letters', measures)
  return measures.waitingLong > 0 ? unhealthy('queue_stuck', measures) : healthy(measures)
}
