import type { Context } from './context.ts'

/**
 * Under what a deployment keeps its history, figures, alerts and incidents: a preview that shares the database neither answers nor pages
 * for production.
 */
export function environmentOf(ctx: Pick<Context, 'env'>): string {
  return ctx.env.CARETAKER_ENVIRONMENT ?? 'development'
}
