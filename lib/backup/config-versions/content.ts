import { createHash } from 'node:crypto'
import * as z from 'zod/mini'
import type { Context } from '../../platform/context.ts'
import { caretakerVersion } from '../../platform/version.ts'
import { listExtensions } from '../catalogue.ts'
import { runPgDump } from '../pg-dump/run-pg-dump.ts'
import { pattern } from '../schema-sql.ts'
import { splitStatements } from '../sql/split-statements.ts'
import { sourceScope } from '../supabase.ts'

/** What of a deployment the policy alone does not say. */
export interface Deployment {
  jobs: readonly { name: string; schedule: string | null }[]
}

export const configSchema = z.strictObject({
  format: z.literal('caretaker-config/1'),
  app: z.string(),
  caretakerVersion: z.string(),
  /** As in caretaker.config.ts; a function in it is "[function]". */
  policy: z.unknown(),
  jobs: z.array(z.strictObject({ name: z.string(), schedule: z.nullable(z.string()) })),
  database: z.strictObject({
    serverVersion: z.string(),
    extensions: z.array(z.strictObject({ name: z.string(), version: z.string(), schema: z.string() })),
    /** Versions of the migrations that were applied. */
    migrations: z.array(z.string()),
    /** Schemas that others change by themselves, and which are not looked at. */
    without: z.array(z.string()),
    /** Of all of the schema. */
    schemaSha256: z.string(),
    /** A short hash of each object's definition, by "TYPE schema.name". */
    objects: z.record(z.string(), z.string()),
  }),
})

export type ConfigContent = z.output<typeof configSchema>

/** They make tables by themselves: queues, and a partition a day. */
const restless = ['pgboss', 'realtime', '_realtime', '_analytics']
const restrictKey = 'caretaker'

/** The configuration as it is now: equal, key by key, as long as nothing has changed. */
export async function readConfig(ctx: Context, deployment: Deployment): Promise<ConfigContent> {
  const scope = await sourceScope(ctx.db, { excludeSchemas: ctx.config.backup?.excludeSchemas ?? [] })
  const without = [...new Set([...scope.excludeSchemas, ...restless])].sort()
  const [sql = ''] = await runPgDump({
    databaseUrl: ctx.db.sessionUrl,
    ca: ctx.env.DATABASE_CA,
    signal: ctx.signal,
    runs: [
      [
        '--schema-only',
        '--encoding=UTF8',
        '--lock-wait-timeout=30000',
        `--restrict-key=${restrictKey}`,
        ...without.map((schema) => `--exclude-schema=${pattern(schema)}`),
      ],
    ],
  })
  const [server] = await ctx.db.query<{ version: string }>(`select current_setting('server_version') as version`)
  return {
    format: 'caretaker-config/1',
    app: ctx.config.app.name,
    caretakerVersion,
    policy: JSON.parse(JSON.stringify(ctx.config, (_key, value: unknown) => (typeof value === 'function' ? '[function]' : value))),
    jobs: deployment.jobs.map(({ name, schedule }) => ({ name, schedule })).sort((a, b) => (a.name < b.name ? -1 : 1)),
    database: {
      serverVersion: server?.version ?? '',
      extensions: await listExtensions(ctx.db),
      migrations: await listApplied(ctx),
      without,
      ...hashSchema(sql),
    },
  }
}

/** Hashes statements in the order of their texts: pg_dump's depends on what there is besides. */
export function hashSchema(sql: string): Pick<ConfigContent['database'], 'schemaSha256' | 'objects'> {
  const byObject = new Map<string, string[]>()
  // Before the first object pg_dump sets its session up.
  for (const { type, schema, name, sql: text } of splitStatements(sql, restrictKey)) {
    if (type === undefined || name === undefined || /^SET |^SELECT pg_catalog\.set_config/.test(text)) continue
    const key = `${type} ${schema === undefined || schema === '-' ? '' : `${schema}.`}${name}`
    byObject.set(key, [...(byObject.get(key) ?? []), text])
  }
  const objects = Object.fromEntries(
    [...byObject].sort(([a], [b]) => (a < b ? -1 : 1)).map(([key, texts]) => [key, sha256(texts.sort().join('\n')).slice(0, 16)]),
  )
  return { schemaSha256: sha256(JSON.stringify(objects)), objects }
}

async function listApplied(ctx: Pick<Context, 'db'>): Promise<string[]> {
  const [table] = await ctx.db.query<{ there: boolean }>(
    `select coalesce(has_table_privilege(to_regclass('supabase_migrations.schema_migrations'), 'select'), false) as there`,
  )
  if (table?.there !== true) return []
  const rows = await ctx.db.query<{ version: string }>('select version from supabase_migrations.schema_migrations order by version')
  return rows.map((row) => row.version)
}

function sha256(text: string): string {
  return createHash('sha256').update(text).digest('hex')
}

/** The text that is stored and hashed: keys in order, wherever they came from. */
export function canonicalText(content: ConfigContent): string {
  return `${JSON.stringify(ordered(content), null, 1)}\n`
}

function ordered(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(ordered)
  if (typeof value !== 'object' || value === null) return value
  return Object.fromEntries(
    Object.entries(value)
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([key, inner]) => [key, ordered(inner)]),
  )
}
