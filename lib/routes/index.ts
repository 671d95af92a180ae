import type { Route } from '../http/index.ts'
import { cron } from './cron.ts'
import { gdpr } from './gdpr.ts'
import { health } from './health.ts'
import { metrics } from './metrics.ts'
import { openapi } from './openapi.ts'
import { ops } from './ops.ts'
import { status } from './status.ts'
import type { Wake } from './wake-worker.ts'
import { webhooks } from './webhooks.ts'
import { worker } from './worker.ts'

/**
 * Every function with its routes: what the local stack serves on one port, and what the tests hold both hosts' entries
 * against. The entries themselves import one each, so that no function carries another's code.
 */
export const functions = {
  health,
  status,
  metrics,
  webhooks,
  gdpr,
  cron,
  worker,
  ops,
  openapi,
} satisfies Record<string, (options?: { wake?: Wake }) => Route[]>

export function allRoutes(options?: { wake?: Wake }): Route[] {
  return Object.values(functions).flatMap((routes) => routes(options))
}
