import * as z from 'zod/mini'
import type { Context } from '../../platform/context.ts'
import type { Database, Transaction } from '../../platform/db.ts'
import { duration, name, table, tables } from './primitives.ts'
import { schedule } from './schedules.ts'

/** What a function of the policy may use: the database, the outside world and the time, and nothing of Caretaker's own. */
export interface AppContext extends Pick<Context, 'supabase' | 'log' | 'clock' | 'fetch'> {
  /** Statements are ended by the server when `deadline` comes. */
  readonly db: Pick<Database, 'query' | 'execute' | 'transaction'>
  /** Aborted when the function must end: its time is over, another worker has the run, or the process is told to stop. */
  readonly signal: AbortSignal
  /** When `signal` will be aborted at the latest. */
  readonly deadline: Date
}

/** The run a function of the policy is called for. */
export interface AppRun {
  /** The same for every attempt at this slot: what an outside system may deduplicate by. */
  readonly id: string
  readonly job: string
  /** The planned instant. */
  readonly slot: Date
  /** 1 the first time; more after a failure, a kill or a hand-over. */
  readonly attempt: number
  /** What was saved last, by this or an earlier attempt; null at the start. */
  readonly checkpoint: unknown
  /** Stores how far the work is; with `tx` in one transaction with the work it speaks of. */
  save(checkpoint: unknown, tx?: Transaction): Promise<void>
  /** Stores, in one transaction with the function's last work, that it is done: that work takes effect exactly once. */
  finish(tx: Transaction, result?: AppJobResult): Promise<void>
  /** True when the invocation ends soon: save a checkpoint and return 'hand-over', and the next one goes on. */
  shouldHandOver(): boolean
}

/** Counts for the job's history, such as `{ rows: 12 }`. No personal data: they are kept and shown. */
export type AppJobResult = Record<string, number | string>

/**
 * A job's work as a function. It may be called again for the same slot: after it threw, after a kill, after the deadline.
 * So it does its work in one transaction with `run.finish`, or such that doing it twice is doing it once.
 */
// biome-ignore lint/suspicious/noConfusingVoidType: a function that counts nothing returns nothing
export type AppJobFunction = (app: AppContext, run: AppRun) => Promise<AppJobResult | 'hand-over' | void>

export type JsonValue = string | number | boolean | null | JsonValue[] | { [key: string]: JsonValue }

const json = z.custom<JsonValue>(isJson, 'expected a JSON value')
const appFunction = z.custom<AppJobFunction>((value) => typeof value === 'function', 'expected a function (app, run) => Promise<…>')

/** A path of the app's (`app.url` is put before it), or a whole address; without TLS only on this machine. */
const callAddress = z
  .string()
  .check(
    z.refine(
      (value) => /^\/(?!\/)\S*$/.test(value) || isCallUrl(value),
      'expected a path such as "/api/jobs/sync", or an https:// URL (http:// only for localhost) without a user name or password',
    ),
  )

const call = z.strictObject({
  path: callAddress,
  /** Default POST. */
  method: z.optional(z.enum(['POST', 'GET'])),
  /** Sent as JSON. Default: `{ type: 'job.due', timestamp, data: { job, slot } }`. */
  body: z.optional(json),
  /** How long one attempt may take. Default "30 seconds". */
  timeout: z.optional(duration),
  /** Further attempts after the first. Default 3. */
  retries: z.optional(z.int().check(z.gte(0), z.lte(20))),
})

/** How long the whole step may take, over all invocations of a run; what does not fit fails with `timeout`. */
const budget = z.optional(duration)

const step = z.union([
  z.strictObject({ vacuum: tables, budget }),
  z.strictObject({ analyze: z.union([z.literal('all'), tables]), budget }),
  /** Names of indexes, or all indexes of a table. */
  z.strictObject({ reindex: z.array(z.union([name, z.strictObject({ table })])), budget }),
  z.strictObject({ refresh: tables, budget }),
  /** Names of retention rules, or all of them. */
  z.strictObject({ retention: z.union([z.literal('all'), z.array(name)]) }),
  z.strictObject({ sql: name, budget }),
  /** A report of `reports`, or "database": the statistics of the database itself. */
  z.strictObject({ report: name }),
  /** A signed call to the app. */
  z.strictObject({ call }),
  /** A function of the policy. */
  z.strictObject({ run: appFunction, budget }),
])

export const job = z.strictObject({
  schedule: z.optional(schedule),
  description: z.optional(z.string()),
  steps: z.array(step).check(z.minLength(1)),
})

export type JobStep = z.output<typeof step>
export type ReindexTarget = Extract<JobStep, { reindex: unknown }>['reindex'][number]
export type CallPolicy = z.output<typeof call>

/** https://, or http:// on this machine; without a user name or password. */
export function isCallUrl(value: string): boolean {
  if (!URL.canParse(value)) return false
  const url = new URL(value)
  if (url.username !== '' || url.password !== '') return false
  return url.protocol === 'https:' || (url.protocol === 'http:' && ['localhost', '127.0.0.1', '[::1]'].includes(url.hostname))
}

function isJson(value: unknown): boolean {
  if (value === null || typeof value === 'string' || typeof value === 'boolean') return true
  if (typeof value === 'number') return Number.isFinite(value)
  if (Array.isArray(value)) return value.every(isJson)
  if (typeof value !== 'object') return false
  const prototype: unknown = Object.getPrototypeOf(value)
  return (prototype === Object.prototype || prototype === null) && Object.values(value as object).every(isJson)
}
