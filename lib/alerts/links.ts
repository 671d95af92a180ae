import type { Context } from '../platform/context.ts'
import { environmentOf } from '../platform/environment.ts'

/** Where an operator sees the incident and acts; null where Caretaker has no public address. */
export function incidentLink(ctx: Pick<Context, 'env'>, incident: string): string | null {
  const { PUBLIC_URL: own, VERCEL_PROJECT_PRODUCTION_URL: vercel } = ctx.env
  const origin = own ?? (vercel === undefined ? undefined : vercel.startsWith('http') ? vercel : `https://${vercel}`)
  return origin === undefined ? null : new URL(`/ops/incidents/${incident}`, origin).toString()
}

/** What tells the watcher's own messages apart: that the database cannot be reached, and that it can be again. */
export function watcherKey(ctx: Pick<Context, 'config' | 'env'>): string {
  return `caretaker:${ctx.config.app.name}:${environmentOf(ctx)}:database`.slice(0, 255)
}
