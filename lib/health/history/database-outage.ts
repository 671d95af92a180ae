import { canonicalName } from '../../config/index.ts'
import type { Context } from '../../platform/context.ts'
import type { Database } from '../../platform/db.ts'
import { policyChecks } from '../check.ts'
import { dependencyTree } from '../dependencies.ts'
import { covered, maintenanceAt } from '../windows/list-maintenance.ts'
import { recordPast } from './record.ts'
import { type Look, whole } from './status.ts'

interface Outage {
  from: Date
  to: Date
}

// It lives and dies with the pool of the instance. What is lost with it stays unknown time.
const outages = new WeakMap<Database, Outage>()

/** Remembers that the database cannot be reached just now: it cannot be written down where everything else is. */
export function noteDatabaseLost(ctx: Pick<Context, 'db' | 'clock'>): void {
  const now = ctx.clock.now()
  outages.set(ctx.db, { from: outages.get(ctx.db)?.from ?? now, to: now })
}

/** Writes into the history, now that the database is back, that it was down as long as this instance saw it so. */
export async function recordDatabaseOutage(ctx: Context): Promise<void> {
  const outage = outages.get(ctx.db)
  if (outage === undefined) return
  const checks = policyChecks(ctx.config, ctx.env).filter((check) => canonicalName(check.policy.kind ?? check.name) === 'database')
  const windows = await maintenanceAt(ctx, outage.from)
  const tree = dependencyTree(ctx.config)
  const looks = checks.map(({ name, critical }): Look & { critical: boolean } => {
    const check = canonicalName(name)
    const status = covered(windows, check, tree.get(check) ?? []) ? 'maintenance' : 'down'
    return { check, status, cause: 'connection_lost', durationMs: null, critical }
  })
  const worst = looks.filter(({ critical }) => critical).map(({ status }) => status)
  const ofWhole: Look[] =
    worst.length === 0 ? [] : [{ check: whole, status: worst.includes('down') ? 'down' : 'maintenance', cause: null, durationMs: null }]
  // One that a single tick has seen was not of no length.
  const to = new Date(Math.max(outage.to.getTime(), outage.from.getTime() + 1_000))
  await recordPast(ctx, [...looks.map(({ critical: _critical, ...look }) => look), ...ofWhole], { from: outage.from, to })
  // Only now: when the database is gone again before it was written, it is tried the next time.
  outages.delete(ctx.db)
}
