import * as z from 'zod/mini'
import { byteSize, duration, name } from './primitives.ts'

export const backup = z.strictObject({
  store: z.optional(
    z.string().check(z.regex(/^(file|s3|supabase):\/\/\S+$/, 'expected file:///DIR, s3://BUCKET/PREFIX or supabase://BUCKET')),
  ),
  recipients: z.optional(z.array(z.string().check(z.regex(/^age1[0-9a-z]{58}$/, 'expected an age recipient: "age1" and 58 characters')))),
  encryption: z.optional(z.literal('none')),
  /** Public keys whose signatures are believed beside the deployment's own: those of another server, or of this one before its ENCRYPTION_KEY was changed. */
  signers: z.optional(
    z.array(
      z
        .string()
        .check(
          z.regex(
            /^(ssh-ed25519 )?AAAAC3NzaC1lZDI1NTE5AAAAI[A-Za-z0-9+/]{43}( .*)?$/,
            'expected the public key of a signer: 68 characters that begin with "AAAAC3NzaC1lZDI1NTE5AAAAI"',
          ),
        ),
    ),
  ),
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
  /** In which order a restore brings groups of tables back and opens them: `table`, `schema.table`, `schema.*`, or `*` for what no other names. */
  restoreOrder: z.optional(
    z.record(
      z.string().check(z.regex(/^[\p{L}][\p{L}\p{N} _-]{0,40}$/u, 'expected the name of a group, which begins with a letter')),
      z
        .array(z.string().check(z.regex(/^(\*|[^.*\s][^.*]*(\.(\*|[^.*]+))?)$/, 'expected "table", "schema.table", "schema.*" or "*"')))
        .check(z.minLength(1)),
    ),
  ),
  /** Hourly increments between the full backups, read from a replication slot. Absent: full backups only. */
  increments: z.optional(
    z.strictObject({
      /** Log the slot may keep on the database's disk before it is dropped. Default "2 GB". */
      maxLag: z.optional(byteSize),
      /** How far back any moment can be restored. Default "7 days". */
      keep: z.optional(duration),
    }),
  ),
})
