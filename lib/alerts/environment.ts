import type { Context } from '../platform/context.ts'

/** Under what alerts are kept: a preview deployment that shares the database must not page for production. */
export function environmentOf(ctx: Pick<Context, 'env'>): string {
  return ctx.env.CARETAKER_ENVIRONMENT ?? 'development'
}
