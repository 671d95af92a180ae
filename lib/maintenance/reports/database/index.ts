import type { Context } from '../../../platform/context.ts'
import { hasCode, sqlState } from '../../../platform/errors.ts'
import { describeError } from '../../../platform/log.ts'
import { reading } from '../../session-settings.ts'
import { longTransactions, overview, slowQueries } from './activity.ts'
import type { Collector, Section } from './finding.ts'
import { duplicateIndexes, foreignKeysWithoutIndex, indexBloat, invalidIndexes, unusedIndexes } from './indexes.ts'
import { sequentialScans, tables, wraparound } from './tables.ts'

const collectors: readonly Collector[] = [
  overview,
  tables,
  indexBloat,
  unusedIndexes,
  duplicateIndexes,
  invalidIndexes,
  foreignKeysWithoutIndex,
  sequentialScans,
  slowQueries,
  wraparound,
  longTransactions,
]

export interface DatabaseReport {
  /** The database's own clock. */
  takenAt: Date
  sections: Section[]
}

/** How long one section may take, milliseconds. */
const sectionTimeoutMs = 20_000

/**
 * What the catalogue and the statistics of the database say about it. Reads only, any role, any PostgreSQL from 14 on;
 * where the role may not look, or an extension is not there, the section says so and the others go on.
 */
export async function reportDatabase(ctx: Pick<Context, 'db' | 'log'>): Promise<DatabaseReport> {
  const [clock] = await ctx.db.query<{ now: Date }>('select now()')
  const sections: Section[] = []
  for (const { name, title, collect } of collectors) sections.push({ name, title, ...(await collected(ctx, name, collect)) })
  return { takenAt: clock?.now ?? new Date(0), sections }
}

async function collected(
  ctx: Pick<Context, 'db' | 'log'>,
  section: string,
  collect: Collector['collect'],
): Promise<Pick<Section, 'findings' | 'note'>> {
  try {
    return await reading(ctx, collect, sectionTimeoutMs)
  } catch (error) {
    const state = sqlState(error)
    if (hasCode(error, 'database_unavailable') || state === undefined) throw error
    ctx.log.warn({ err: error, section }, 'a section of the database report could not be read')
    return {
      findings: [],
      note: state === '57014' ? 'it took too long' : `the database refused it: ${String(describeError(error).message)} (SQLSTATE ${state})`,
    }
  }
}
