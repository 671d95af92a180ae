import { addTo, type Buckets, bucketOf } from './histogram.ts'

export const metricKinds = ['counter', 'gauge', 'histogram'] as const
export type MetricKind = (typeof metricKinds)[number]

/** Who tells a series: Caretaker of itself, the app, a log drain, a query of the policy. */
export type MetricSource = 'caretaker' | 'app' | 'logs' | 'gauge'

/** What is known of one series in one stretch of time. Two of them are merged by adding. */
export interface Figures {
  /** A counter's increments, a histogram's observations, how often a gauge was looked at. */
  count: number
  sum: number
  min: number
  max: number
  /** The newest value. */
  last: number
  /** Only of histograms. */
  buckets: Buckets | null
}

export function figuresOf(value: number, kind: MetricKind, count = 1): Figures {
  const buckets = kind === 'histogram' ? new Map([[bucketOf(value), count]]) : null
  return { count, sum: kind === 'histogram' ? value * count : value, min: value, max: value, last: value, buckets }
}

/** Adds `more`, which is not older than what is there. */
export function mergeInto(into: Figures, more: Figures): void {
  into.count += more.count
  into.sum += more.sum
  into.min = Math.min(into.min, more.min)
  into.max = Math.max(into.max, more.max)
  into.last = more.last
  if (more.buckets === null) return
  into.buckets ??= new Map()
  for (const [bucket, count] of more.buckets) addTo(into.buckets, bucket, count)
}
