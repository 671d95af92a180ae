import { durationMs, type ReportPolicy } from '../../config/index.ts'
import type { Context } from '../../platform/context.ts'
import { remainingMs } from '../../platform/context.ts'
import type { Session } from '../../platform/db.ts'
import { CaretakerError, sqlState } from '../../platform/errors.ts'
import { describeError } from '../../platform/log.ts'
import { bindReport } from './bind.ts'
import type { ReportColumn } from './csv.ts'
import type { ReportWindow } from './period.ts'

/** The answer of a report's query. Each call reads it anew, from one snapshot of the database. */
export interface ReportReader {
  columns: readonly ReportColumn[]
  /** Rows in batches, as the server writes values: exact, whatever their type. */
  rows(): AsyncGenerator<(string | null)[][]>
  /** The same rows as the texts of JSON objects, as PostgreSQL makes them. */
  json(): AsyncGenerator<string[]>
}

const defaultTimeout = '1 minute'
const batchRows = 500
/** Kept free before the deadline, for what is done with the answer. */
const marginMs = 3_000

type Query = Pick<ReportPolicy, 'sql' | 'timeout'>

/**
 * Runs a report's query for `work` to read: in a READ ONLY transaction, which sees one snapshot, in the window's time
 * zone, without policies that would hide rows, and for no longer than the report's timeout.
 * @throws {CaretakerError} `policy_invalid` for a query that PostgreSQL refuses or that changes something, `forbidden` naming what
 * the role may not read, `timeout` when it takes longer than it may, `job_failed` when it fails on the data
 */
export async function readReport<T>(
  ctx: Context,
  name: string,
  query: Query,
  window: ReportWindow,
  work: (reader: ReportReader) => Promise<T>,
): Promise<T> {
  const leftMs = remainingMs(ctx) - marginMs
  const policyMs = durationMs(query.timeout ?? defaultTimeout)
  const mayTakeMs = Math.min(policyMs, leftMs)
  const timeout = leftMs < policyMs ? 'what was left of the invocation' : (query.timeout ?? defaultTimeout)
  if (mayTakeMs <= 0) throw new CaretakerError('timeout', `The report "${name}" was not begun: the invocation ends.`)
  const endsAtMs = ctx.clock.monotonicMs() + mayTakeMs
  return ctx.db.session(async (session) => {
    await begin(session, window, mayTakeMs)
    try {
      const bound = bindReport(query.sql)
      const values = bound.values(window)
      const left = () => {
        if (ctx.clock.monotonicMs() > endsAtMs) throw tookTooLong(name, timeout)
        ctx.signal.throwIfAborted()
      }
      const fail = (error: unknown) => translate(name, timeout, error)
      const columns = await translated(name, timeout, () => columnsOf(session, bound.text, values))
      const read = <Row>(text: string, pick: (row: (string | null)[]) => Row) => batches(session, { text, values, pick, left, fail })
      return await work({
        columns,
        rows: () => read(bound.text, (row) => row),
        json: () => read(`select row_to_json(q)::text from (\n${bound.text}) q`, ([json]) => json ?? 'null'),
      })
    } finally {
      await session.execute('rollback').catch(() => undefined)
    }
  })
}

/** The columns a query would answer with, without running it. The same errors as `readReport`. */
export async function describeReport(ctx: Context, name: string, query: Query, window: ReportWindow): Promise<readonly ReportColumn[]> {
  return readReport(ctx, name, query, window, (reader) => Promise.resolve(reader.columns))
}

async function begin(session: Session, window: ReportWindow, mayTakeMs: number): Promise<void> {
  await session.execute('begin isolation level repeatable read read only')
  await session.query(
    `select set_config('timezone', $1::text, true), set_config('datestyle', 'ISO, YMD', true), set_config('row_security', 'off', true),
            set_config('statement_timeout', $2::text, true), set_config('lock_timeout', '2000', true),
            set_config('idle_in_transaction_session_timeout', '0', true)`,
    [window.timezone, String(Math.max(1, Math.trunc(mayTakeMs)))],
  )
}

/** What pg gives with `rowMode: 'array'` and no parsing. */
const asText = { getTypeParser: () => (value: string) => value }

async function columnsOf(session: Session, text: string, values: unknown[]): Promise<ReportColumn[]> {
  const answer = await session.client.query({ text: `select * from (\n${text}) q limit 0`, values, rowMode: 'array' })
  return answer.fields.map((field) => ({ name: field.name, typeOid: field.dataTypeID }))
}

interface Batches<Row> {
  text: string
  values: unknown[]
  pick: (row: (string | null)[]) => Row
  /** Throws when there is no time left. */
  left: () => void
  fail: (error: unknown) => unknown
}

async function* batches<Row>(session: Session, { text, values, pick, left, fail }: Batches<Row>): AsyncGenerator<Row[]> {
  try {
    await session.client.query({ text: `declare report no scroll cursor for ${text}`, values })
    for (;;) {
      left()
      const { rows } = await session.client.query<(string | null)[]>({
        text: `fetch ${batchRows} from report`,
        rowMode: 'array',
        types: asText,
      })
      if (rows.length > 0) yield rows.map(pick)
      if (rows.length < batchRows) break
    }
    await session.client.query('close report')
  } catch (error) {
    throw fail(error)
  }
}

async function translated<T>(name: string, timeout: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work()
  } catch (error) {
    throw translate(name, timeout, error)
  }
}

function tookTooLong(name: string, timeout: string, cause?: unknown): CaretakerError {
  return new CaretakerError(
    'timeout',
    `The report "${name}" was ended after ${timeout}. Give it a longer "timeout", or its query an index.`,
    cause === undefined ? {} : { cause },
  )
}

function translate(name: string, timeout: string, error: unknown): unknown {
  const state = sqlState(error)
  if (state === undefined) return error
  const message = String(describeError(error).message)
  const path = `reports.${name}.sql`
  if (state === '57014') return tookTooLong(name, timeout, error)
  if (state === '25006')
    return invalid(path, `the query changes something (${message}); expected one that only reads, because reports run read-only`, error)
  if (state === '42501')
    return new CaretakerError('forbidden', `The report "${name}" cannot be read: ${message} (SQLSTATE ${state}).`, { cause: error })
  // Syntax errors, and names that are not there.
  if (state.startsWith('42') || state.startsWith('0A')) return invalid(path, `PostgreSQL refuses the query: ${message}`, error)
  return new CaretakerError('job_failed', `The report "${name}" failed: ${message} (SQLSTATE ${state}).`, { cause: error })
}

function invalid(path: string, message: string, cause: unknown): CaretakerError {
  return new CaretakerError('policy_invalid', `${path}: ${message}`, { cause, issues: [{ path, message }] })
}
