import { hasCode } from '../../platform/errors.ts'
import { type Checker, healthy, unhealthy } from '../checker.ts'

// numbackends is readable by every role; pg_stat_activity hides other users' rows from most.
const figures = `select current_setting('server_version') as version, current_setting('max_connections')::int as max,
  (select sum(numbackends)::int from pg_stat_database) as used`

/** The database answers, over the pool that request handlers use. Measures its connections and version. */
export const database: Checker = async (ctx, _check, signal) => {
  try {
    const [row] = await ctx.db.probe<{ version: string; used: number; max: number }>(figures, [], signal)
    return row === undefined ? unhealthy('bad_answer') : healthy({ version: row.version, connections: row.used, maxConnections: row.max })
  } catch (error) {
    // Other parts may be left out; without a database there is nothing to look after.
    if (hasCode(error, 'not_configured')) return unhealthy('not_configured')
    throw error
  }
}
