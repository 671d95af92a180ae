import type { Context } from '../platform/context.ts'
import { runPgDump } from './pg-dump/run-pg-dump.ts'
import type { Snapshot } from './snapshot.ts'

export interface SchemaOptions {
  restrictKey: string
  excludeSchemas: readonly string[]
  excludeExtensions: readonly string[]
}

/** The schema before and after the data, as pg_dump writes it, in the same snapshot as the data. */
export async function dumpSchema(
  ctx: Context,
  snapshot: Pick<Snapshot, 'id'>,
  options: SchemaOptions,
): Promise<{ preData: string; postData: string }> {
  const args = [
    `--snapshot=${snapshot.id}`,
    '--encoding=UTF8',
    // Fails rather than waits for ever behind somebody who waits for us.
    '--lock-wait-timeout=30000',
    `--restrict-key=${options.restrictKey}`,
    ...options.excludeSchemas.map((schema) => `--exclude-schema=${pattern(schema)}`),
    ...options.excludeExtensions.map((extension) => `--exclude-extension=${pattern(extension)}`),
  ]
  const [preData = '', postData = ''] = await runPgDump({
    databaseUrl: ctx.db.sessionUrl,
    ca: ctx.env.DATABASE_CA,
    signal: ctx.signal,
    runs: [
      ['--section=pre-data', ...args],
      ['--section=post-data', ...args],
    ],
  })
  return { preData, postData }
}

/** A name that pg_dump reads as itself, not as a pattern. */
export function pattern(name: string): string {
  return `"${name.replaceAll('"', '""')}"`
}
