import { durationMs } from '../config/index.ts'
import type { Context } from '../platform/context.ts'

/** What of this domain's tables must not grow for ever. */
export type Prunable = keyof typeof rules

interface Rule {
  table: string
  /** On the row `x`; $1 and $2 are the instants before which payloads and entries are old. */
  old: string
  /** What becomes of it, where it is not deleted. */
  set?: string
}

const rules = {
  /** An event that is done is not needed again; its entry still tells repeats. */
  payloads: {
    table: 'caretaker.inbox',
    old: `x.state in ('applied', 'ignored') and octet_length(x.payload) > 0 and x.received_at < $1::timestamptz`,
    set: `payload = ''`,
  },
  entries: { table: 'caretaker.inbox', old: `x.state in ('applied', 'ignored', 'dead') and x.received_at < $2::timestamptz` },
  objects: { table: 'caretaker.inbox_objects', old: 'x.touched_at < $2::timestamptz' },
  messages: {
    table: 'caretaker.messages',
    old: `x.created_at < $1::timestamptz
      and not exists (select from caretaker.deliveries d where d.message_id = x.id and d.state = 'waiting')`,
  },
  logCounts: { table: 'caretaker.log_counts', old: 'x.minute < $2::timestamptz' },
  /** A batch is sent again within minutes, or never. */
  logBatches: { table: 'caretaker.log_batches', old: 'x.at < $1::timestamptz' },
  counts: { table: 'caretaker.webhook_counts', old: 'x.hour < $2::timestamptz' },
} satisfies Record<string, Rule>

/** How many rows of that kind are past what the policy keeps. */
export async function countPrunable(ctx: Context, what: Prunable): Promise<number> {
  const { table, old } = rules[what]
  const [row] = await ctx.db.query<{ count: number }>(
    `with kept as (select $1::timestamptz, $2::timestamptz) select count(*)::int as count from ${table} x, kept where ${old}`,
    cutOffs(ctx),
  )
  return row?.count ?? 0
}

/** Empties or deletes at most `limit` of them, in one statement; two of these at once take different rows. @returns how many */
export function prune(ctx: Context, what: Prunable, limit: number): Promise<number> {
  const { table, old, ...rule }: Rule = rules[what]
  const rows = `ctid = any (array(
    with kept as (select $1::timestamptz, $2::timestamptz)
    select x.ctid from ${table} x, kept where ${old} limit $3::int for update of x skip locked))`
  return ctx.db.execute(rule.set === undefined ? `delete from ${table} where ${rows}` : `update ${table} set ${rule.set} where ${rows}`, [
    ...cutOffs(ctx),
    limit,
  ])
}

/** By the context's clock: before when payloads, and before when entries are old. */
function cutOffs(ctx: Context): [Date, Date] {
  const keep = ctx.config.webhooks?.keep
  const now = ctx.clock.now().getTime()
  return [new Date(now - durationMs(keep?.payloads ?? '30 days')), new Date(now - durationMs(keep?.entries ?? '90 days'))]
}
