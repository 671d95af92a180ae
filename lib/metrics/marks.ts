import type { Context } from '../platform/context.ts'
import type { Queryable } from '../platform/db.ts'
import { environmentOf } from '../platform/environment.ts'

/** How far something is; null where it never was. */
export async function markOf(ctx: Pick<Context, 'db' | 'env'>, name: string): Promise<Date | null> {
  const [row] = await ctx.db.query<{ at: Date }>('select at from caretaker.metric_marks where environment = $1::text and name = $2::text', [
    environmentOf(ctx),
    name,
  ])
  return row?.at ?? null
}

/** Never goes back. */
export async function setMark(db: Queryable, environment: string, name: string, at: Date, detail: unknown = null): Promise<void> {
  await db.execute(
    `insert into caretaker.metric_marks as m (environment, name, at, detail) values ($1::text, $2::text, $3::timestamptz, $4::jsonb)
     on conflict (environment, name) do update set at = greatest(m.at, excluded.at), detail = excluded.detail`,
    [environment, name, at, detail === null ? null : JSON.stringify(detail)],
  )
}
