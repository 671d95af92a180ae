import { canonicalName } from '../../config/index.ts'
import type { Context } from '../../platform/context.ts'
import { hasCode } from '../../platform/errors.ts'
import { type Checker, healthy, unhealthy } from '../checker.ts'

// numbackends is readable by every role; pg_stat_activity hides other users' rows from most.
const figures = `select current_setting('server_version') as version, current_setting('max_connections')::int as max,
  (select sum(numbackends)::int from pg_stat_database) as used`

/**
 * The database answers, over the pool that request handlers use; past the pooler where that has a check of its own, so that
 * each tells of itself. Measures its connections and version.
 */
export const database: Checker = async (ctx, _check, signal) => {
  try {
    const [row] = await ctx.db.probe<{ version: string; used: number; max: number }>(
      figures,
      [],
      signal,
      poolerIsChecked(ctx) ? 'sessions' : 'requests',
    )
    return row === undefined ? unhealthy('bad_answer') : healthy({ version: row.version, connections: row.used, maxConnections: row.max })
  } catch (error) {
    // Other parts may be left out; without a database there is nothing to look after.
    if (hasCode(error, 'not_configured')) return unhealthy('not_configured')
    throw error
  }
}

function poolerIsChecked({ config }: Context): boolean {
  return Object.entries(config.health?.checks ?? {}).some(([name, { kind }]) => canonicalName(kind ?? name) === 'pooler')
}
