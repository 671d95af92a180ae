import { CaretakerError } from '../platform/errors.ts'
import type { MetricKind } from './figures.ts'
import { quantile } from './histogram.ts'
import type { MetricStat } from './metric-query.ts'
import type { BinFigures } from './read-bins.ts'

const defaultStats = { counter: 'sum', gauge: 'last', histogram: 'p95' } as const satisfies Record<MetricKind, MetricStat>

const statsOf: Record<MetricKind, readonly MetricStat[]> = {
  counter: ['sum', 'per_second'],
  gauge: ['last', 'average', 'max', 'min', 'sum'],
  histogram: ['average', 'max', 'min', 'sum', 'per_second', 'p50', 'p90', 'p95', 'p99'],
}

export interface Evaluated {
  value: number | null
  samples: number
}

/** The statistic that is asked for, or the kind's own. @throws {CaretakerError} `invalid_input` where the kind has no such one */
export function statFor(metric: string, kind: MetricKind, asked: MetricStat | undefined): MetricStat {
  const stat = asked ?? defaultStats[kind]
  if (statsOf[kind].includes(stat)) return stat
  throw new CaretakerError(
    'invalid_input',
    `stat: found "${stat}" of "${metric}", which is a ${kind}; expected ${statsOf[kind].join(', ')}.`,
  )
}

/**
 * One number made of figures. `quiet`: nothing was told in that time though somebody would have, so that a counter has
 * grown by nothing.
 */
export function evaluate(
  kind: MetricKind,
  stat: MetricStat,
  figures: BinFigures | undefined,
  { seconds, quiet }: { seconds: number; quiet: boolean },
): Evaluated {
  if (figures === undefined) return { value: kind !== 'gauge' && quiet && (stat === 'sum' || stat === 'per_second') ? 0 : null, samples: 0 }
  const { count, sum, min, max, last, lastSum, buckets } = figures
  const samples = kind === 'counter' ? Math.max(count, Math.round(sum)) : count
  switch (stat) {
    case 'last':
      return { value: last, samples }
    case 'max':
      return { value: max, samples }
    case 'min':
      return { value: min, samples }
    case 'average':
      return { value: count === 0 ? null : sum / count, samples }
    case 'sum':
      return { value: kind === 'gauge' ? lastSum : sum, samples }
    case 'per_second':
      return { value: (kind === 'histogram' ? count : sum) / seconds, samples }
    default:
      return { value: buckets === null ? null : quantile(buckets, Number(stat.slice(1)) / 100, { min, max }), samples }
  }
}

/** A share: null where there is nothing to divide by. Its samples are the divisor's. */
export function divide(of: Evaluated, per: Evaluated): Evaluated {
  return { value: of.value === null || per.value === null || per.value === 0 ? null : of.value / per.value, samples: per.samples }
}
