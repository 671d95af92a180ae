import { measureOne, namedMetrics, performanceReport, type RoutePerformance } from '../../lib/metrics/index.ts'
import type { Command } from '../command.ts'
import { duration, table } from '../output.ts'
import { sinceTime } from '../since.ts'

const performance: Command = {
  name: 'metrics performance',
  usage: '[--since 24h]',
  summary: 'How fast each route was answered, how often with an error: p50, p95, p99, of Caretaker and of the app as far as it tells',
  options: { since: { type: 'string', value: 'TIME', about: 'a duration back from now or an ISO 8601 time; 24h unless given' } },
  async run({ flags, context, out }) {
    const ctx = await context()
    const to = ctx.clock.now()
    const from = sinceTime(flags.since, to, '24 hours')
    const report = await performanceReport(ctx, { from, to })
    const overSeconds = (to.getTime() - from.getTime()) / 1_000
    const overall: Record<string, number | null> = {}
    for (const metric of Object.keys(namedMetrics)) overall[metric] = (await measureOne(ctx, { metric, overSeconds }, to)).value
    out.result({ ...report, overall }, report.routes.length === 0 ? nothing(from) : describe(report.routes, overall, from))
  },
}

function nothing(from: Date): string {
  return `Nothing was measured since ${from.toISOString().slice(0, 16)}Z: no request was answered by the functions, and the app told of none.`
}

function describe(routes: readonly RoutePerformance[], overall: Record<string, number | null>, from: Date): string {
  const seconds = (value: number | null | undefined) => (value == null ? null : duration(value * 1_000))
  const rows = routes.map((one) => [
    one.service,
    one.method,
    one.route,
    one.requests,
    share(one.errorRate),
    seconds(one.p50),
    seconds(one.p95),
    seconds(one.p99),
    seconds(one.max),
  ])
  return [
    `Since ${from.toISOString().slice(0, 16)}Z: p50 ${seconds(overall['http.p50']) ?? '–'}, p95 ${seconds(overall['http.p95']) ?? '–'}, ` +
      `p99 ${seconds(overall['http.p99']) ?? '–'}, errors ${share(overall['http.error_rate'] ?? null) ?? '–'}, failed sign-ins ${overall['auth.failed'] ?? '–'}.`,
    '',
    table(['service', 'method', 'route', 'requests', 'errors', 'p50', 'p95', 'p99', 'slowest'], rows),
  ].join('\n')
}

function share(value: number | null): string | null {
  return value === null ? null : `${(100 * value).toFixed(value > 0 && value < 0.1 ? 2 : 1)} %`
}

export const commands: Command[] = [performance]
