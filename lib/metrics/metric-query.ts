import type { Policy } from '../config/index.ts'
import { nearest } from '../config/index.ts'
import { CaretakerError } from '../platform/errors.ts'
import { ownMetrics } from './own-metrics.ts'

export const metricStats = ['last', 'average', 'max', 'min', 'sum', 'per_second', 'p50', 'p90', 'p95', 'p99'] as const
export type MetricStat = (typeof metricStats)[number]

/** Labels with the values they must have; `5xx` takes every status of that class. */
export type LabelFilter = Readonly<Record<string, string>>

export interface MetricQuery {
  /** A series' name, or one of `namedMetrics`. */
  metric: string
  /**
   * What is made of the values within `overSeconds`. Without it: the sum of a counter, the last value of a gauge, a
   * histogram's p95. `sum` and `per_second` of a counter are what it grew by; `per_second` of a histogram counts
   * observations. Of several gauges `last` is the greatest: `by` tells them apart.
   */
  stat?: MetricStat
  where?: LabelFilter
  /** Divides by the same of another metric: failures per attempts. */
  per?: { metric: string; where?: LabelFilter }
  /** One measure for each set of values of these labels. */
  by?: readonly string[]
  overSeconds: number
}

export interface Measure {
  /** Of `by`; empty without it. */
  labels: Record<string, string>
  /** Null where there is no data, which is not zero. */
  value: number | null
  /** On how many observations the value stands: requests of a rate, looks at a gauge. */
  samples: number
}

/** One side of a query: which series, and what of them. */
export interface Selection {
  metric: string
  /** Labels with their accepted values. */
  where: Readonly<Record<string, readonly string[]>>
  /**
   * Who tells it. `http`: the app if it tells of its requests, else the log drain, else Caretaker of its own functions;
   * a `service` in `where` decides instead.
   */
  from: 'any' | 'http'
}

/** A query in terms of series. */
export interface ResolvedQuery {
  stat: MetricStat | undefined
  of: Selection
  per: Selection | null
}

const requests = 'http_requests_total'
const durations = 'http_request_duration_seconds'

const percentileNames = { 'http.p50': 'p50', 'http.p90': 'p90', 'http.p95': 'p95', 'http.p99': 'p99' } as const satisfies Record<
  string,
  MetricStat
>

/** Metrics that are made of several series. */
export const namedMetrics: Readonly<Record<string, string>> = {
  'http.requests': 'Requests answered.',
  'http.error_rate': 'The share of requests answered with 5xx, 0 to 1.',
  'http.p50': 'Half of the requests were answered within this, seconds.',
  'http.p90': '90 % of the requests were answered within this, seconds.',
  'http.p95': '95 % of the requests were answered within this, seconds.',
  'http.p99': '99 % of the requests were answered within this, seconds.',
  'auth.failed': 'Requests answered with 401 or 403, by Caretaker, by the app as far as it tells, and as the log drain counts them.',
}

/**
 * Every metric that is known without asking the database: the named ones, Caretaker's own, the gauges of the policy. The
 * app may tell others.
 */
export function knownMetrics(policy: Policy): string[] {
  return [...Object.keys(namedMetrics), ...Object.keys(ownMetrics), ...Object.keys(policy.metrics?.gauges ?? {})]
}

/** @throws {CaretakerError} `invalid_input` for a name with a dot that is not one of the named metrics, or a stretch of time that is none */
export function resolveQuery(query: Omit<MetricQuery, 'overSeconds' | 'by'> & { overSeconds: number }): ResolvedQuery {
  if (!(query.overSeconds > 0) || !Number.isFinite(query.overSeconds))
    throw new CaretakerError('invalid_input', `overSeconds: found ${query.overSeconds}, expected a positive number of seconds.`)
  const of = select(query.metric, query.where)
  const per = query.per === undefined ? null : select(query.per.metric, query.per.where)
  if (query.metric === 'http.requests') return { stat: query.stat, of, per }
  if (query.metric === 'http.error_rate') {
    const status = ['5xx']
    return {
      stat: 'sum',
      of: { ...of, metric: requests, where: { ...of.where, status } },
      per: { ...of, metric: requests },
    }
  }
  if (Object.hasOwn(percentileNames, query.metric))
    return { stat: percentileNames[query.metric as keyof typeof percentileNames], of: { ...of, metric: durations }, per }
  if (query.metric === 'auth.failed')
    return { stat: query.stat ?? 'sum', of: { ...of, metric: requests, where: { ...of.where, status: ['401', '403'] } }, per }
  if (query.metric.includes('.')) {
    const near = nearest(query.metric, Object.keys(namedMetrics))
    throw new CaretakerError(
      'invalid_input',
      `There is no metric "${query.metric.slice(0, 100)}"${near === undefined ? '' : `; did you mean "${near}"?`}`,
    )
  }
  return { stat: query.stat, of, per }
}

function select(metric: string, where: LabelFilter = {}): Selection {
  const http = metric.startsWith('http.') && where.service === undefined
  return {
    metric: metric === 'http.requests' ? requests : metric,
    where: Object.fromEntries(Object.entries(where).map(([name, value]) => [name, [value]])),
    from: http ? 'http' : 'any',
  }
}
