import { knownMetric, knownMetrics, statsOfKind } from '../known-metrics.ts'
import { nearest } from '../nearest.ts'

/** What names a figure: a rule, or a figure of the dashboard. */
export interface Figure {
  metric: string
  stat?: string | undefined
  per?: { metric: string } | undefined
  above?: number | undefined
  below?: number | undefined
  recover?: number | undefined
}

export interface FigureIssue {
  path: PropertyKey[]
  message: string
}

/** A share of a limit may be more than one; of this much nobody means a share: it is a percentage. */
const mostOfARatio = 10

/**
 * What is wrong with a figure, as far as it is known before anybody tells it: a metric of no such name, a statistic that its kind does not
 * have, a threshold that it can never reach. `gauges` are the policy's own.
 */
export function* issuesOfFigure(figure: Figure, gauges: Readonly<Record<string, { unit?: string | undefined }>>): Generator<FigureIssue> {
  yield* issuesOfName(['metric'], figure.metric, gauges)
  if (figure.per !== undefined) yield* issuesOfName(['per', 'metric'], figure.per.metric, gauges)
  const gauge = Object.hasOwn(gauges, figure.metric) ? gauges[figure.metric] : undefined
  const known = knownMetric(figure.metric) ?? (gauge === undefined ? undefined : { stats: statsOfKind.gauge })
  if (known !== undefined && figure.stat !== undefined && !known.stats.some((stat) => stat === figure.stat))
    yield {
      path: ['stat'],
      message:
        known.stats.length === 0
          ? `expected nothing: "${figure.metric}" says which figure it is`
          : `expected a figure that "${figure.metric}" has (${known.stats.join(', ')})`,
    }
  if (figure.per !== undefined && knownMetric(figure.metric)?.share === true)
    yield { path: ['per'], message: `expected nothing: "${figure.metric}" is a share already` }
  if (knownMetric(figure.metric) !== undefined && (figure.per === undefined || knownMetric(figure.per.metric) !== undefined))
    yield* issuesOfRange(figure)
  else if (figure.per === undefined && (gauge?.unit === 'ratio' || figure.metric.endsWith('_ratio'))) yield* issuesOfRatio(figure)
}

function* issuesOfName(path: PropertyKey[], metric: string, gauges: Readonly<Record<string, unknown>>): Generator<FigureIssue> {
  if (knownMetric(metric) !== undefined || /^[a-zA-Z_][a-zA-Z0-9_]{0,99}$/.test(metric)) return
  const named = Object.keys(knownMetrics).filter((name) => name.includes('.'))
  const near = nearest(metric, [...Object.keys(knownMetrics), ...Object.keys(gauges)])
  const hint = near === undefined ? '' : `; did you mean "${near}"?`
  yield { path, message: `expected one of ${named.join(', ')}, or a metric’s name: letters, digits and underscores${hint}` }
}

/** Of what is never negative, and of shares, which are never more than 1. */
function* issuesOfRange({ metric, above, below, recover }: Figure): Generator<FigureIssue> {
  const most = knownMetric(metric)?.share === true ? 1 : Number.POSITIVE_INFINITY
  const why = most === 1 ? `"${metric}" is a share from 0 to 1, so that 5 % is 0.05` : `"${metric}" is never negative`
  if (above !== undefined && above >= most) yield { path: ['above'], message: `expected less than 1: ${why}` }
  if (above !== undefined && above < 0) yield { path: ['above'], message: `expected 0 or more, or it would always fire: ${why}` }
  if (below !== undefined && below <= 0) yield { path: ['below'], message: `expected more than 0, or it would never fire: ${why}` }
  if (below !== undefined && below > most) yield { path: ['below'], message: `expected at most 1, or it would always fire: ${why}` }
  if (recover !== undefined && (recover < 0 || recover > most))
    yield { path: ['recover'], message: `expected ${most === 1 ? 'a value from 0 to 1' : '0 or more'}, or it would never clear: ${why}` }
}

/** A ratio of the policy's or the app's own may be of a limit that can be exceeded. */
function* issuesOfRatio(figure: Figure): Generator<FigureIssue> {
  for (const name of ['above', 'below', 'recover'] as const) {
    const value = figure[name]
    if (value !== undefined && Math.abs(value) > mostOfARatio)
      yield { path: [name], message: `expected a ratio: 80 % is 0.8, and "${figure.metric}" is one` }
  }
}
