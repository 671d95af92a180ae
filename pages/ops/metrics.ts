import type { MeasuredAt, RoutePerformance } from '../../lib/metrics/index.ts'
import { type Html, html } from '../html.ts'
import { table } from '../parts.ts'
import { linePlot } from '../plot.ts'
import { clockText, dayText, latencyText } from '../time.ts'
import type { View } from './shell.ts'

export const ranges = {
  hour: { text: 'Last hour', hours: 1, stepSeconds: 60, overSeconds: 300 },
  day: { text: 'Last 24 hours', hours: 24, stepSeconds: 900, overSeconds: 900 },
  week: { text: 'Last 7 days', hours: 168, stepSeconds: 7_200, overSeconds: 7_200 },
} as const
export type Range = keyof typeof ranges

export interface MetricsShown {
  range: Range
  from: Date
  to: Date
  series: Record<'p50' | 'p95' | 'p99' | 'errors' | 'rate', readonly MeasuredAt[]>
  /** The busiest first. */
  routes: readonly RoutePerformance[]
}

/** Of the table. */
const routeRows = 50

const secondsText = (seconds: number) => latencyText(seconds * 1_000)

export function shareText(share: number): string {
  return `${Number((share * 100).toPrecision(3))} %`
}

export function metricsPage({ timezone }: View, { range, from, to, series, routes }: MetricsShown): Html {
  const formatTime = (at: Date) =>
    range === 'week' ? `${dayText(at, timezone).slice(5)} ${clockText(at, timezone)}` : clockText(at, timezone)
  const common = { heading: 'h2' as const, from, to, formatTime, empty: 'Nothing was measured in this time.' }
  const last = (points: readonly MeasuredAt[]) => points.findLast(({ value }) => value !== null)?.value ?? null
  const said = (value: number | null, format: (value: number) => string) => (value === null ? 'not measured' : format(value))
  return html`<h1>Metrics</h1>
<nav class="range" aria-label="Range"><ul>${Object.entries(ranges).map(
    ([name, { text }]) =>
      html`<li><a class="button quiet" href="/ops/metrics?range=${name}"${name === range && html` aria-current="true"`}>${text}</a></li>`,
  )}</ul></nav>
<div class="plots"><div class="card">${linePlot({
    ...common,
    title: 'Response times',
    description: `the latest are p50 ${said(last(series.p50), secondsText)}, p95 ${said(last(series.p95), secondsText)}, p99 ${said(last(series.p99), secondsText)}`,
    series: [
      { name: 'p50', points: series.p50 },
      { name: 'p95', points: series.p95 },
      { name: 'p99', points: series.p99 },
    ],
    format: secondsText,
  })}</div>
<div class="card">${linePlot({
    ...common,
    title: 'Error rate',
    description: `requests answered with 5xx, the latest ${said(last(series.errors), shareText)}`,
    series: [{ name: 'error rate', points: series.errors }],
    format: shareText,
    limit: { value: 0.05, name: '5 %' },
  })}</div>
<div class="card">${linePlot({
    ...common,
    title: 'Requests',
    description: `requests a second, the latest ${said(last(series.rate), (value) => value.toPrecision(2))}`,
    series: [{ name: 'requests a second', points: series.rate }],
    format: (value) => `${Number(value.toPrecision(2))}/s`,
  })}</div></div>
<h2>By route</h2>
${table({
  caption: `${ranges[range].text}, the busiest first${routes.length > routeRows ? `: ${routeRows} of ${routes.length}` : ''}`,
  empty: 'No request was measured in this time.',
  rows: routes.slice(0, routeRows),
  columns: [
    { name: 'Route', cell: ({ method, route, service }) => html`<code>${method} ${route}</code> <span class="soft">${service}</span>` },
    { name: 'Requests', numeric: true, cell: ({ requests }) => requests.toLocaleString('en') },
    { name: 'Errors', numeric: true, cell: ({ errorRate }) => (errorRate === null ? '' : shareText(errorRate)) },
    { name: 'p50', numeric: true, cell: ({ p50 }) => (p50 === null ? '' : secondsText(p50)) },
    { name: 'p95', numeric: true, cell: ({ p95 }) => (p95 === null ? '' : secondsText(p95)) },
    { name: 'p99', numeric: true, cell: ({ p99 }) => (p99 === null ? '' : secondsText(p99)) },
  ],
})}`
}
