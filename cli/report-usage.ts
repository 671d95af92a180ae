import type { UsageLine, UsageReport } from '../lib/metrics/index.ts'
import { bytes, duration, table } from './output.ts'

/** A usage report for a person. What was not measured is a dash. */
export function usageText({ from, to, activeUsers, usage, metrics, jobs, webhooks }: UsageReport): string {
  const day = (at: string) => at.slice(0, 16).replace('T', ' ')
  const count = (value: number | null) => (value === null ? '–' : value.toLocaleString('en', { maximumFractionDigits: 3 }))
  const received = Object.entries(webhooks).map(([source, events]) => `${source} ${count(events)}`)
  const measured = Object.entries(usage).filter(([, value]) => value !== null)
  return [
    `${day(from)} to ${day(to)} UTC`,
    '',
    `Active people   ${count(activeUsers.daily)} in a day, ${count(activeUsers.weekly)} in a week, ${count(activeUsers.monthly)} in a month`,
    ...measured.map(([name, value]) => `${name.replaceAll('_', ' ').padEnd(15)} ${count(value)}`),
    `Jobs            ${count(jobs.done)} done, ${count(jobs.failed)} failed`,
    `Webhooks        ${received.length === 0 ? 'none' : received.join(', ')}`,
    '',
    metrics.length === 0
      ? 'No metrics yet: the job `metrics` asks the gauges of the policy, and POST /metrics/ingest takes what the app tells.'
      : table(
          ['metric', 'kind', 'now', 'period before', 'about'],
          metrics.map((line) => [line.metric, line.kind, written(line, line.value), written(line, line.before), line.help]),
        ),
  ].join('\n')
}

function written({ unit, kind }: UsageLine, value: number | null): string | null {
  if (value === null) return null
  if (kind === 'gauge' && unit === 'bytes') return bytes(value)
  if (kind === 'gauge' && unit === 'seconds') return duration(value * 1_000)
  if (kind === 'gauge' && unit === 'ratio') return `${(100 * value).toFixed(1)} %`
  return value.toLocaleString('en', { maximumFractionDigits: 3 })
}
