import * as z from 'zod/mini'
import type { Context } from '../platform/context.ts'
import { environmentOf } from '../platform/environment.ts'
import { CaretakerError } from '../platform/errors.ts'
import { Batch, type SeriesIdentity } from './batch.ts'
import { metricKinds } from './figures.ts'
import { markOf, setMark } from './marks.ts'
import { ownMetrics } from './own-metrics.ts'
import { storeBatch } from './store-batch.ts'

const mostLabels = 10
const longestLabel = 100
/** Of one metric in all: series are found by an index, whose entries hold no more than some 2,700 bytes. */
const mostLabelBytes = 2_000
const greatest = 1e18
const mostObservations = 20_000
/** How far back an observation may lie: hours that are summed up stay as they are. */
const oldestMs = 3_600_000
/** It is noted that the app lives, ms: well within the time after which its silence counts as none. */
const toldEveryMs = 30_000
/** Clocks differ. */
const newestMs = 300_000

const word = (expected: string) => z.string().check(z.regex(/^[a-zA-Z_][a-zA-Z0-9_]{0,99}$/, `expected ${expected}`))
const words = (most: number) =>
  z.string().check(
    z.maxLength(most, `expected at most ${most} characters`),
    z.refine((text) => text.isWellFormed() && !/\p{Cc}/u.test(text), 'expected text without control characters'),
  )
/** Beyond it sums would lose digits, and in the end overflow. */
const amount = z.number().check(z.gte(-greatest, `expected at least -${greatest}`), z.lte(greatest, `expected at most ${greatest}`))

const item = z.strictObject({
  name: word('a name of letters, digits and underscores, such as "suggestions_generated_total"'),
  /** A counter's value is what it has grown by since it was told last; a histogram's, what was observed. */
  type: z.enum(metricKinds),
  value: z.optional(amount),
  /** Several observations of a histogram. */
  values: z.optional(z.array(amount)),
  labels: z.optional(z.record(word('a label of letters, digits and underscores'), words(longestLabel))),
  help: z.optional(words(200)),
  unit: z.optional(words(40)),
  /** Of a gauge that is told more rarely than every minute: it holds for twice as long. */
  everySeconds: z.optional(z.int().check(z.gte(1), z.lte(86_400))),
  /** ISO 8601; default now. Not more than an hour ago. */
  at: z.optional(z.iso.datetime({ offset: true, error: 'expected a time such as "2026-11-21T12:00:00Z"' })),
})

/** `POST /metrics/ingest`. */
export const ingestBody = z.strictObject({
  /** Names the batch: one that is sent again within a day is not counted again. */
  id: z.optional(z.string().check(z.regex(/^[\x21-\x7e]{1,100}$/, 'expected up to 100 printable characters'))),
  metrics: z
    .array(item)
    .check(z.minLength(1, 'expected at least one metric'), z.maxLength(1_000, 'expected at most 1000 metrics a request')),
})

export type IngestInput = z.output<typeof ingestBody>
type Item = IngestInput['metrics'][number]

export interface Ingested {
  /** Metrics taken. */
  accepted: number
  /** The batch was counted before: nothing was added. */
  duplicate: boolean
  /** Names that have too many label sets, with how many of this batch were counted as `other`. */
  other?: Record<string, number>
}

/**
 * Counts what the app tells of itself: all of it, or nothing.
 * @throws {CaretakerError} `invalid_input` naming every item that is not accepted; `conflict` where a name is of another
 *   kind than before; `database_unavailable`
 */
export async function ingestMetrics(ctx: Context, input: IngestInput): Promise<Ingested> {
  const now = ctx.clock.now()
  const issues = input.metrics.flatMap((one, index) =>
    problemsOf(ctx, one, now).map((issue) => ({ ...issue, path: `metrics.${index}.${issue.path}` })),
  )
  const kinds = new Map<string, Item['type']>()
  for (const [index, { name, type }] of input.metrics.entries()) {
    const before = kinds.get(name) ?? type
    kinds.set(name, before)
    if (before !== type)
      issues.push({ path: `metrics.${index}.type`, message: `found "${type}", expected "${before}", as "${name}" is before it` })
  }
  const observations = input.metrics.reduce((sum, { values }) => sum + (values?.length ?? 1), 0)
  if (observations > mostObservations)
    issues.push({ path: 'metrics', message: `found ${observations} values, expected at most ${mostObservations} a request` })
  if (issues.length > 0)
    throw new CaretakerError(
      'invalid_input',
      `The body is not accepted: ${issues.map(({ path, message }) => `${path}: ${message}`).join('; ')}.`,
      {
        issues,
      },
    )
  const batch = new Batch()
  for (const one of input.metrics) {
    const at = one.at === undefined ? now : new Date(Math.min(new Date(one.at).getTime(), now.getTime()))
    for (const value of one.values ?? [one.value ?? 0]) batch.add(identityOf(one), value, at)
  }
  const environment = environmentOf(ctx)
  const folded = await ctx.db.transaction(async (tx) => {
    if (input.id !== undefined) {
      const taken = await tx.execute(
        'insert into caretaker.metric_batches (environment, id, at) values ($1::text, $2::text, $3::timestamptz) on conflict do nothing',
        [environment, input.id, now],
      )
      if (taken === 0) return null
    }
    return storeBatch(tx, environment, batch, { now, mostSeries: ctx.config.metrics?.mostSeries })
  })
  if (folded === null) return { accepted: 0, duplicate: true }
  // Not with every request, and not in its transaction: all instances of the app would wait for each other on this row.
  const told = await markOf(ctx, 'app')
  if (told === null || now.getTime() - told.getTime() > toldEveryMs) await setMark(ctx.db, environment, 'app', now)
  if (folded.size > 0) ctx.log.warn({ metrics: Object.fromEntries(folded) }, 'metrics with too many label sets were counted as "other"')
  return { accepted: input.metrics.length, duplicate: false, ...(folded.size === 0 ? {} : { other: Object.fromEntries(folded) }) }
}

function identityOf({ name, type, labels = {}, unit, help, everySeconds }: Item): SeriesIdentity {
  return { name, labels, kind: type, source: 'app', unit, help, everySeconds }
}

interface Problem {
  path: string
  message: string
}

/** What is wrong with one item beyond its form. Values of labels are not repeated: they may be what should not be there. */
function problemsOf(ctx: Context, one: Item, now: Date): Problem[] {
  const problems: Problem[] = []
  const problem = (path: string, message: string) => void problems.push({ path, message })
  const own = Object.hasOwn(ownMetrics, one.name) ? ownMetrics[one.name] : undefined
  if (one.name.startsWith('caretaker_')) problem('name', `found "${one.name}", expected another: names with caretaker_ are Caretaker's own`)
  else if (Object.hasOwn(ctx.config.metrics?.gauges ?? {}, one.name))
    problem('name', `found "${one.name}", expected another: it is a gauge of the policy`)
  else if (own !== undefined && own.kind !== one.type)
    problem('type', `found "${one.type}", expected "${own.kind}", as "${one.name}" is everywhere`)
  if (one.type === 'histogram') {
    if ((one.value === undefined) === (one.values === undefined)) problem('values', 'expected either "value" or "values"')
  } else if (one.value === undefined) problem('value', 'found nothing, expected a number')
  else if (one.values !== undefined) problem('values', `expected no "values" of a ${one.type}`)
  if (one.type === 'counter' && (one.value ?? 0) < 0) problem('value', `found ${one.value}, expected what it has grown by, at least 0`)
  if (one.everySeconds !== undefined && one.type !== 'gauge') problem('everySeconds', `expected none of a ${one.type}`)
  const labels = Object.entries(one.labels ?? {})
  const bytes = Buffer.byteLength(labels.flat().join(''))
  if (bytes > mostLabelBytes) problem('labels', `found ${bytes} bytes of names and values, expected at most ${mostLabelBytes}`)
  if (labels.length > mostLabels) problem('labels', `found ${labels.length}, expected at most ${mostLabels}`)
  for (const [name, value] of labels) {
    if (name.startsWith('__') || name === 'le' || name === 'quantile')
      problem(`labels.${name}`, 'expected another name: this one has a meaning of its own')
    if (/[^\s@]@[^\s@]+\./.test(value))
      problem(`labels.${name}`, 'found what looks like an e-mail address: labels are kept and shown, expected nobody in them')
  }
  if (one.labels?.service?.startsWith('caretaker') === true)
    problem('labels.service', 'found one that begins with "caretaker", expected another: Caretaker tells of itself under it')
  if (one.at !== undefined) {
    const at = new Date(one.at).getTime()
    if (at < now.getTime() - oldestMs) problem('at', `found ${one.at}, expected a time within the last hour`)
    if (at > now.getTime() + newestMs) problem('at', `found ${one.at}, expected a time that is not to come`)
  }
  return problems
}
