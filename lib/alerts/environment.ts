import type { Context } from '../platform/context.ts'
import { environmentOf } from '../platform/environment.ts'

/** Under what, and for whose policy: another deployment on the same database must not end what this one watches. */
export function scopeOf(ctx: Pick<Context, 'env'>): { environment: string; deployment: string } {
  return { environment: environmentOf(ctx), deployment: ctx.env.CARETAKER_DEPLOYMENT ?? 'default' }
}
