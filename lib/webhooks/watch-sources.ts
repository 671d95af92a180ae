import type { Context } from '../platform/context.ts'
import { emitEvent } from '../platform/outbox.ts'
import { expectedEvents } from './silence.ts'

export interface Watched {
  source: string
  lastHeard: Date
  /** How many events would usually have come since. */
  expected: number
  silent: boolean
}

const hourMs = 3_600_000
const lookBackMs = 35 * 24 * hourMs
const defaultExpected = 12

/**
 * Counts what arrived, and finds the sources from which nothing comes that usually would: providers switch endpoints off
 * without a word. `webhooks.silent` and `webhooks.heard` go into the outbox, each once.
 */
export async function watchSources(ctx: Context): Promise<Watched[]> {
  const now = ctx.clock.now()
  await countArrivals(ctx, now)
  const policy = ctx.config.webhooks?.silence
  if (policy === false) return []
  const enough = policy?.expected ?? defaultExpected
  const rows = await ctx.db.query<{ source: string; last: Date | null; silent: Date | null }>(
    `select s.source, s.silent_since as silent,
       (select max(received_at) from caretaker.inbox i where i.source = s.source and not i.fetched
          and i.received_at >= (select max(c.hour) from caretaker.webhook_counts c where c.source = s.source)) as last
     from caretaker.webhook_sources s where s.counted_until is not null order by s.source`,
  )
  const watched: Watched[] = []
  for (const { source, last, silent } of rows) {
    if (last === null) continue
    const counts = await ctx.db.query<{ hour: Date; received: number }>(
      'select hour, received from caretaker.webhook_counts where source = $1::text and hour >= $2::timestamptz',
      [source, new Date(last.getTime() - lookBackMs)],
    )
    const expected = expectedEvents(new Map(counts.map((row) => [row.hour.getTime(), row.received])), last, now)
    const isSilent = expected >= enough
    watched.push({ source, lastHeard: last, expected: Math.round(expected), silent: isSilent })
    if (isSilent !== (silent !== null)) await tell(ctx, source, isSilent ? last : null, expected)
  }
  return watched
}

/** Of two watches at once one tells: the update finds the row as it was for the first alone. */
async function tell(ctx: Context, source: string, since: Date | null, expected: number): Promise<void> {
  await ctx.db.transaction(async (tx) => {
    const changed = await tx.execute(
      `update caretaker.webhook_sources set silent_since = $2::timestamptz
       where source = $1::text and (silent_since is null) = ($2::timestamptz is not null)`,
      [source, since],
    )
    if (changed === 0) return
    if (since === null) await emitEvent(tx, 'webhooks.heard', { source })
    else await emitEvent(tx, 'webhooks.silent', { source, since: since.toISOString(), expected: Math.round(expected) })
  })
}

/** Counts whole hours anew from the last one that was counted: that one was not over then. */
async function countArrivals(ctx: Context, now: Date): Promise<void> {
  const [row] = await ctx.db.query<{ until: Date | null }>('select min(counted_until) as until from caretaker.webhook_sources')
  const from = new Date(Math.max(now.getTime() - lookBackMs, (row?.until?.getTime() ?? 0) - 2 * hourMs))
  await ctx.db.transaction(async (tx) => {
    await tx.execute(
      `insert into caretaker.webhook_counts as c (source, hour, received)
       select source, date_trunc('hour', received_at, 'UTC'), count(*) from caretaker.inbox
       where received_at >= date_trunc('hour', $1::timestamptz, 'UTC') and not fetched
       group by 1, 2 order by 1, 2
       on conflict (source, hour) do update set received = greatest(c.received, excluded.received)`,
      [from],
    )
    await tx.execute(
      `insert into caretaker.webhook_sources as s (source, counted_until)
       select distinct source, $1::timestamptz from caretaker.webhook_counts order by 1
       on conflict (source) do update set counted_until = excluded.counted_until`,
      [now],
    )
  })
}
