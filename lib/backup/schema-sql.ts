import type { Session } from '../platform/db.ts'
import { runPgDump } from './pg-dump/run-pg-dump.ts'
import { viewsFirst } from './sql/views-first.ts'

export interface SchemaOptions {
  restrictKey: string
  excludeSchemas: readonly string[]
  excludeExtensions: readonly string[]
}

/** Tablespaces are the server's: where one is missing, nothing that lies in it could be made. */
export const portable = ['--encoding=UTF8', '--no-tablespaces'] as const

/**
 * The schema before and after the data, as pg_dump writes it, on a session that has the snapshot of the data, and locks on the tables:
 * pg_dump wants locks too, and in a session of its own would wait for them behind whoever waits for ours.
 */
export async function dumpSchema(
  session: Session,
  options: SchemaOptions,
  signal: AbortSignal,
): Promise<{ preData: string; postData: string }> {
  const args = [
    ...portable,
    '--lock-wait-timeout=30000',
    `--restrict-key=${options.restrictKey}`,
    ...options.excludeSchemas.map((schema) => `--exclude-schema=${pattern(schema)}`),
    ...options.excludeExtensions.map((extension) => `--exclude-extension=${pattern(extension)}`),
  ]
  const [preData = '', postData = ''] = await runPgDump({
    session,
    signal,
    runs: [
      ['--section=pre-data', ...args],
      ['--section=post-data', ...args],
    ],
  })
  return { preData, postData: viewsFirst(postData, options.restrictKey) }
}

/** A name that pg_dump reads as itself, not as a pattern. */
export function pattern(name: string): string {
  return `"${name.replaceAll('"', '""')}"`
}
