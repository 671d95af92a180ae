import * as z from 'zod/mini'
import type { Transaction } from '../platform/db.ts'
import { byteSizeExpected, isByteSize } from './bytes.ts'
import { durationExpected, isDuration } from './duration.ts'

/*
 * The policy's schema. Objects are strict: a key that is not known is an error that names the nearest known one.
 * Only `app.name` is required; a part that is absent is off.
 */

const name = z.string().check(z.minLength(1, 'expected a name, found an empty string'))
const duration = z.string().check(z.refine(isDuration, durationExpected))
const byteSize = z.string().check(z.refine(isByteSize, byteSizeExpected))
/** `table` or `schema.table`; `public` where no schema is named. */
const table = z.string().check(z.regex(/^[^\s."]+(\.[^\s."]+)?$/, 'expected "table" or "schema.table"'))
const cron = z.string().check(z.regex(/^\S+(\s+\S+){4}$/, 'expected a cron expression of five fields such as "0 2 * * *"'))
const url = z.string().check(z.regex(/^https?:\/\/\S+$/, 'expected an http:// or https:// URL'))

const missed = z.enum(['last', 'all', 'skip'])
const schedule = z.union([cron, z.strictObject({ cron, timezone: z.optional(z.string()), missed: z.optional(missed) })])

const check = z.strictObject({
  /** A checker's name; the key of the entry where it is absent. `url` checks any address. */
  kind: z.optional(z.string()),
  url: z.optional(url),
  /** A failing critical check makes the whole report fail. Default true for the database, false for third parties. */
  critical: z.optional(z.boolean()),
  timeoutMs: z.optional(z.int().check(z.gte(50), z.lte(30_000))),
  expectStatus: z.optional(z.int()),
})

const retentionRule = z.strictObject({
  /** How jobs and reports call this rule; the table's name where it is absent. */
  name: z.optional(name),
  table,
  /** Either an age… */
  column: z.optional(name),
  olderThan: z.optional(duration),
  /** …or a condition in SQL. */
  where: z.optional(name),
  action: z.union([
    z.literal('purge'),
    z.strictObject({ archiveTo: table }),
    z.strictObject({ anonymise: z.record(z.string(), z.union([z.string(), z.number(), z.boolean(), z.null()])) }),
  ]),
  /** A boolean column that says a row has been anonymised. */
  mark: z.optional(name),
})

const tables = z.array(table)
const step = z.union([
  z.strictObject({ vacuum: tables }),
  z.strictObject({ analyze: z.union([z.literal('all'), tables]) }),
  z.strictObject({ reindex: z.array(name) }),
  z.strictObject({ refresh: tables }),
  /** Names of retention rules, or all of them. */
  z.strictObject({ retention: z.union([z.literal('all'), z.array(name)]) }),
  z.strictObject({ sql: name }),
])

const job = z.strictObject({
  schedule: z.optional(schedule),
  description: z.optional(z.string()),
  steps: z.array(step).check(z.minLength(1)),
})

const erase = z.union([
  z.literal('delete'),
  z.strictObject({ anonymise: z.union([z.array(name), z.record(z.string(), z.union([z.string(), z.number(), z.boolean(), z.null()]))]) }),
  /** Kept on a legal basis until a date; the named columns are emptied at once. */
  z.strictObject({ keep: name, until: duration, anonymise: z.optional(z.array(name)) }),
])

type AnyEvent = { id: string; type: string; created: number; data: { object: Record<string, unknown> } }
/** Runs in the transaction that marks the event as applied: its effects happen exactly once. */
export type WebhookHandler = (event: AnyEvent, tx: Transaction) => Promise<void>
const handler = z.custom<WebhookHandler>((value) => typeof value === 'function', 'expected a function (event, tx) => Promise<void>')

export const policySchema = z.strictObject({
  app: z.strictObject({ name, url: z.optional(url), timezone: z.optional(z.string()) }),
  health: z.optional(
    z.strictObject({
      checks: z.optional(z.record(z.string(), check)),
      /** How old a report may be before it is made anew, seconds. Default 10. */
      maxAgeSeconds: z.optional(z.int().check(z.gte(1), z.lte(300))),
    }),
  ),
  maintenance: z.optional(z.strictObject({ vacuum: z.optional(tables), reindex: z.optional(z.array(name)), refresh: z.optional(tables) })),
  retention: z.optional(z.array(retentionRule)),
  /** Jobs of the app's own, by name. */
  jobs: z.optional(z.record(z.string(), job)),
  /** When built-in jobs run, where not at their default. `false` turns one off. */
  schedules: z.optional(z.record(z.string(), z.union([schedule, z.literal(false)]))),
  backup: z.optional(
    z.strictObject({
      store: z.optional(
        z.string().check(z.regex(/^(file|s3|supabase):\/\/\S+$/, 'expected file:///DIR, s3://BUCKET/PREFIX or supabase://BUCKET')),
      ),
      recipients: z.optional(
        z.array(z.string().check(z.regex(/^age1[0-9a-z]{58}$/, 'expected an age recipient: "age1" and 58 characters'))),
      ),
      encryption: z.optional(z.literal('none')),
      /** Parallel connections. Default 2. */
      connections: z.optional(z.int().check(z.gte(1), z.lte(16))),
      /** How many invocations work on one backup at a time, each with its own connections. Default 1. */
      workers: z.optional(z.int().check(z.gte(1), z.lte(8))),
      /** Restore drills by the server. `false` forbids it an identity; assertions are queries that give true in a restored database. */
      drill: z.optional(z.union([z.literal(false), z.strictObject({ assertions: z.optional(z.record(z.string(), name)) })])),
      /** Schemas to leave out beside PostgreSQL's own. */
      excludeSchemas: z.optional(z.array(name)),
      keep: z.optional(
        z.strictObject({
          daily: z.optional(z.int()),
          hourly: z.optional(duration),
          config: z.optional(duration),
          weekly: z.optional(z.int()),
          monthly: z.optional(z.int()),
        }),
      ),
      buckets: z.optional(z.array(name)),
      /** Hourly increments between the full backups, read from a replication slot. Absent: full backups only. */
      increments: z.optional(
        z.strictObject({
          /** Log the slot may keep on the database's disk before it is dropped. Default "2 GB". */
          maxLag: z.optional(byteSize),
          /** How far back any moment can be restored. Default "7 days". */
          keep: z.optional(duration),
        }),
      ),
    }),
  ),
  gdpr: z.optional(
    z.strictObject({
      /** The table a person is a row of. `id` is its key column where it has no single-column primary key. */
      subject: z.strictObject({ table, id: z.optional(name), email: z.optional(name) }),
      tables: z.optional(
        z.record(
          z.string(),
          z.strictObject({
            export: z.optional(z.union([z.boolean(), z.array(name)])),
            erase: z.optional(erase),
            /** A column that names the person without a foreign key: an id, or an e-mail address. */
            link: z.optional(z.strictObject({ column: name, to: z.optional(z.enum(['id', 'email'])) })),
            /** Foreign-key columns that do not make a row the person's: the project a member was added to by its owner. */
            ignore: z.optional(z.array(name)),
          }),
        ),
      ),
      processors: z.optional(z.array(name)),
      /** Days until the answer is due are a calendar month by law (Art. 12(3)); nothing to configure. */
      buckets: z.optional(z.array(z.strictObject({ bucket: name, prefix: name }))),
    }),
  ),
  webhooks: z.optional(
    z.strictObject({
      stripe: z.optional(
        z.strictObject({
          on: z.optional(z.record(z.string(), handler)),
          toleranceSeconds: z.optional(z.int().check(z.gte(1), z.lte(3600))),
        }),
      ),
    }),
  ),
})

/** A policy as written in caretaker.config.ts. */
export type PolicyInput = z.input<typeof policySchema>
/** A policy that satisfied the schema. */
export type Policy = z.output<typeof policySchema>
export type RetentionRule = z.output<typeof retentionRule>
export type JobStep = z.output<typeof step>
export type Schedule = z.output<typeof schedule>
export type MissedPolicy = z.output<typeof missed>
export type HealthCheckPolicy = z.output<typeof check>
