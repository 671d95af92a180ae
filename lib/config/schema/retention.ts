import * as z from 'zod/mini'
import { byteSize, duration, name, table } from './primitives.ts'

const share = z.number().check(z.gt(0, 'expected a share above 0'), z.lte(1, 'expected a share up to 1'))

/** How much one run may do; what is left is the next run's, from where this one ended. */
export const retentionBudget = z.strictObject({
  /** Rows of the rule's own table, beside whole partitions, which cost nothing. */
  rows: z.optional(z.int().check(z.gte(1))),
  /** Time at work on the rule, over all invocations of a run. */
  time: z.optional(duration),
})

/** What keeps a rule from hurting, and from taking more than was meant. */
export const retentionLimits = z.strictObject({
  /** How long a batch may hold its locks, milliseconds; its size follows. Default 20. */
  batchMs: z.optional(z.int().check(z.gte(1), z.lte(5_000))),
  /** The share of its time that the database may work on batches; it rests for the remainder. Default 0.8. */
  load: z.optional(share),
  /** Wait while a replica is further behind than this. Default "64 MB". */
  replicaLag: z.optional(byteSize),
  /** Wait while a replica shows a past older than this. Default "30 seconds". */
  replicaDelay: z.optional(duration),
  /** Wait while another session's snapshot is older: dead rows cannot be removed before it ends. Default "30 minutes". */
  snapshotAge: z.optional(duration),
  /** How long a run waits in all, for replicas, snapshots and whoever waits for the table, before it leaves the rest to the next. Default "5 minutes". */
  patience: z.optional(duration),
  /** The youngest age a rule may name. Default "1 day". */
  leastAge: z.optional(duration),
  /** The largest share of a table that a run may take, where that is more than 1000 rows. Default 0.5. */
  maxShare: z.optional(share),
  /** How many rows a table may have whose foreign key points at deleted rows without an index: each deleted row reads them all. Default 100000. */
  maxUnindexed: z.optional(z.int().check(z.gte(0))),
})

const action = z.union([z.literal('purge'), z.strictObject({ archiveTo: table })])

/** Rows that go along with those of the rule, in the same transaction. */
const child = z.strictObject({
  table,
  /** Its column that points at the parent. Needed where no foreign key, or more than one, says so. */
  column: z.optional(name),
  /** The parent's column. Default: what the foreign key names, or the primary key. */
  references: z.optional(name),
  /** The child that it hangs from, where that is not the rule's own table. */
  through: z.optional(table),
  /** What becomes of its rows. Default "purge"; a rule that archives must say it. */
  action: z.optional(action),
})

const partitions = z.strictObject({
  /** How long a partition is. Needed for creating them. */
  interval: z.optional(z.enum(['day', 'week', 'month', 'quarter', 'year'])),
  /** For how long ahead there must be partitions. */
  ahead: z.optional(duration),
  /** The IANA time zone whose midnights the boundaries are. Default: the app's. */
  timezone: z.optional(name),
  /** Whether partitions that are past their date as a whole are dropped (or moved to the archive) instead of being emptied. Default true. */
  drop: z.optional(z.boolean()),
})

export const retentionRule = z.strictObject({
  /** How jobs and reports call this rule; the table's name where it is absent. */
  name: z.optional(name),
  table,
  /** Either an age… */
  column: z.optional(name),
  olderThan: z.optional(duration),
  /** …or a condition in SQL. */
  where: z.optional(name),
  action: z.union([
    /** "keep": nothing goes, the rule is there for the coming partitions. */
    z.enum(['purge', 'keep']),
    z.strictObject({ archiveTo: table }),
    z.strictObject({ anonymise: z.record(z.string(), z.union([z.string(), z.number(), z.boolean(), z.null()])) }),
  ]),
  /** A boolean column that says a row has been anonymised. */
  mark: z.optional(name),
  children: z.optional(z.array(child)),
  partitions: z.optional(partitions),
  budget: z.optional(retentionBudget),
  limits: z.optional(retentionLimits),
})

export type RetentionRule = z.output<typeof retentionRule>
export type RetentionChild = z.output<typeof child>
export type RetentionLimits = z.output<typeof retentionLimits>
export type RetentionBudget = z.output<typeof retentionBudget>
