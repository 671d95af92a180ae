import type { Context } from '../platform/context.ts'
import { runPgDump } from './pg-dump/run-pg-dump.ts'
import type { Snapshot } from './snapshot.ts'

export type Section = 'pre-data' | 'post-data'

/** The schema before or after the data, as pg_dump writes it, in the same snapshot as the data. */
export function dumpSection(
  ctx: Context,
  snapshot: Pick<Snapshot, 'id'>,
  section: Section,
  options: { restrictKey: string; excludeSchemas: readonly string[]; excludeExtensions: readonly string[] },
): Promise<string> {
  return runPgDump({
    databaseUrl: ctx.db.sessionUrl,
    ca: ctx.env.DATABASE_CA,
    signal: ctx.signal,
    args: [
      `--section=${section}`,
      `--snapshot=${snapshot.id}`,
      '--encoding=UTF8',
      // Fails rather than waits for ever behind somebody who waits for us.
      '--lock-wait-timeout=30000',
      `--restrict-key=${options.restrictKey}`,
      ...options.excludeSchemas.map((schema) => `--exclude-schema=${pattern(schema)}`),
      ...options.excludeExtensions.map((extension) => `--exclude-extension=${pattern(extension)}`),
    ],
  })
}

/** A name that pg_dump reads as itself, not as a pattern. */
export function pattern(name: string): string {
  return `"${name.replaceAll('"', '""')}"`
}
