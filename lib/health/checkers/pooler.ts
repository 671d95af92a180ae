import { type Checker, healthy, notConfigured, unhealthy } from '../checker.ts'

/** The pooler (Supavisor, PgBouncer) takes a transaction and gives the connection back. Only where one is configured. */
export const pooler: Checker = async (ctx, _check, signal) => {
  if (ctx.env.DATABASE_POOLED_URL === undefined || ctx.env.DATABASE_POOLED_URL === ctx.env.DATABASE_URL) return notConfigured
  const [row] = await ctx.db.probe<{ one: number }>('select 1 as one', [], signal)
  return row?.one === 1 ? healthy() : unhealthy('bad_answer')
}
