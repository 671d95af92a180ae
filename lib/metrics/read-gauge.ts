import { durationMs, type GaugePolicy } from '../config/index.ts'
import type { Context } from '../platform/context.ts'
import type { Row } from '../platform/db.ts'
import { CaretakerError } from '../platform/errors.ts'
import type { Labels } from './batch.ts'

export interface GaugeValue {
  labels: Labels
  value: number
}

/** More rows than that are no gauge. */
export const mostGaugeRows = 1_000
const longestLabel = 100
/** Beyond it sums would lose digits, and in the end overflow. */
const greatest = 1e18

/**
 * What a query of the policy answers now: nothing but reads, in a transaction that the server holds to it, and for no
 * longer than it may take. Nulls are left out: they are no data.
 * @throws {CaretakerError} `policy_invalid` for an answer that is not numbers with labels, `timeout`, `database_unavailable`, or what the
 *   database says of the statement
 */
export async function readGauge(
  ctx: Pick<Context, 'db'>,
  name: string,
  gauge: Pick<GaugePolicy, 'sql' | 'labels' | 'timeout'>,
): Promise<GaugeValue[]> {
  const rows = await readOnly(ctx, gauge.sql, gauge.timeout, mostGaugeRows + 1)
  const refuse = (message: string) => new CaretakerError('policy_invalid', `metrics.gauges.${name}.sql: ${message}`)
  if (rows.length > mostGaugeRows) throw refuse(`found more than ${mostGaugeRows} rows; expected one for each label set.`)
  const values = rows.flatMap((row): GaugeValue[] => {
    const columns = Object.keys(row)
    const column = columns.length === 1 ? (columns[0] as string) : 'value'
    if (!columns.includes(column)) throw refuse(`found the columns ${columns.join(', ')}; expected one column, or one called "value".`)
    const value = toNumber(row[column])
    if (value === null) return []
    if (Number.isNaN(value)) throw refuse(`the column "${column}" is not a number.`)
    const labels = columns
      .filter((one) => one !== column)
      .map((one) => [
        one,
        String(row[one] ?? '')
          .slice(0, longestLabel)
          .toWellFormed(),
      ])
    return [{ labels: { ...gauge.labels, ...Object.fromEntries(labels) }, value }]
  })
  const seen = new Set<string>()
  for (const { labels } of values) {
    const key = JSON.stringify(labels)
    if (seen.has(key))
      throw refuse(
        Object.keys(labels).length === 0 ? 'found several rows without labels; expected one.' : 'found two rows of the same labels.',
      )
    seen.add(key)
  }
  return values
}

/** The one number that a query answers; null where it answers none. */
export async function readNumber(ctx: Pick<Context, 'db'>, path: string, sql: string): Promise<number | null> {
  const [row] = await readOnly(ctx, sql, undefined, 2)
  if (row === undefined) return null
  const value = toNumber(Object.values(row)[0])
  if (Number.isNaN(value)) throw new CaretakerError('policy_invalid', `${path}.sql: the first column is not a number.`)
  return value
}

/** As a subquery: what would change something, and what is more than one statement, is not accepted there. */
function readOnly(ctx: Pick<Context, 'db'>, sql: string, timeout: string | undefined, limit: number): Promise<Row[]> {
  const statementTimeoutMs = durationMs(timeout ?? '5 seconds')
  return ctx.db.transaction((tx) => tx.query(`select * from (${sql.replace(/;\s*$/, '')}\n) as answer limit ${limit}`), {
    readOnly: true,
    statementTimeoutMs,
    lockTimeoutMs: 2_000,
  })
}

/** NaN for what is no number; numeric and int8 arrive as text. */
function toNumber(value: unknown): number | null {
  if (value === null || value === undefined) return null
  const number =
    typeof value === 'number' || (typeof value === 'string' && /^[+-]?\d+(\.\d+)?([eE][+-]?\d+)?$/.test(value)) ? Number(value) : Number.NaN
  return Math.abs(number) <= greatest ? number : Number.NaN
}
