import type { HealthReport, HealthStatus } from './report.ts'
import type { CheckResult } from './run-check.ts'

/** What a health route answers with, beside its body. */
export interface HealthAnswer {
  status: 200 | 503
  headers: Record<string, string>
}

const retryAfterSeconds = 10

/**
 * 503 only where a critical check fails: a monitor or load balancer that reads the status alone must not take the app
 * away because a third party is down. A good answer may be kept by a CDN for some seconds, a bad one by nobody.
 */
export function healthAnswer(status: HealthStatus): HealthAnswer {
  return status === 'unhealthy'
    ? { status: 503, headers: { 'cache-control': 'no-store', 'retry-after': String(retryAfterSeconds) } }
    : { status: 200, headers: { 'cache-control': 'public, max-age=5, s-maxage=15' } }
}

/** For one check the question is about that one: 200 where it passes, 503 where it fails or there is nothing to ask. */
export function checkAnswer(result: Pick<CheckResult, 'status'>): HealthAnswer {
  return healthAnswer(result.status === 'healthy' ? 'healthy' : 'unhealthy')
}

/** https://datatracker.ietf.org/doc/html/draft-inadarei-api-health-check-06 */
export interface HealthJson {
  status: 'pass' | 'warn' | 'fail'
  version: string
  releaseId: string
  checks: Record<string, HealthJsonCheck[]>
}

interface HealthJsonCheck {
  componentType: 'datastore' | 'component' | 'system'
  observedValue?: number
  observedUnit?: string
  status: 'pass' | 'warn' | 'fail'
  time: string
  /** A code of the fixed vocabulary. */
  output?: string
}

const statusWords = { healthy: 'pass', degraded: 'warn', unhealthy: 'fail' } as const

/** The report for `Accept: application/health+json`. */
export function toHealthJson(report: HealthReport): HealthJson {
  const checks: HealthJson['checks'] = {}
  const time = report.timestamp
  for (const [name, service] of Object.entries(report.services)) {
    const status = service.status === 'healthy' ? 'pass' : service.status === 'unhealthy' && service.critical ? 'fail' : 'warn'
    checks[`${name}:responseTime`] = [
      {
        componentType: datastores.has(name.replaceAll('_', '-')) ? 'datastore' : 'component',
        // Nothing was asked, so nothing took any time.
        ...(service.status === 'not_configured' ? {} : { observedValue: service.response_time, observedUnit: 'ms' }),
        status,
        time,
        ...(service.cause === undefined ? {} : { output: service.cause }),
      },
    ]
  }
  checks.uptime = [{ componentType: 'system', observedValue: report.uptime, observedUnit: 's', status: 'pass', time }]
  checks['memory:utilization'] = [
    { componentType: 'system', observedValue: report.performance.memory.rss, observedUnit: 'bytes', status: 'pass', time },
  ]
  return { status: statusWords[report.status], version: report.version.split('.')[0] ?? report.version, releaseId: report.version, checks }
}

const datastores: ReadonlySet<string> = new Set(['database', 'object-store'])
