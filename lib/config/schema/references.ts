import { nearest } from '../nearest.ts'
import { isCallUrl, type JobStep } from './jobs.ts'
import { databaseReport, type ReportPolicy } from './reports.ts'

interface Referring {
  app: { url?: string | undefined }
  jobs?: Record<string, { steps: JobStep[] }> | undefined
  reports?: Record<string, ReportPolicy> | undefined
}

/** What the policy's jobs name in other parts of it, and is not there. */
export function referencesOfJobs(policy: Referring): { path: PropertyKey[]; message: string; input: unknown }[] {
  const reports = policy.reports ?? {}
  const issues: { path: PropertyKey[]; message: string; input: unknown }[] = []
  if (Object.hasOwn(reports, databaseReport))
    issues.push({
      path: ['reports', databaseReport],
      message: 'expected another name: "database" is the report of the database itself',
      input: policy,
    })
  for (const [job, { steps }] of Object.entries(policy.jobs ?? {})) {
    for (const [index, step] of steps.entries()) {
      const at = ['jobs', job, 'steps', index]
      if ('report' in step) {
        const message = reportProblem(step.report, reports)
        if (message !== undefined) issues.push({ path: [...at, 'report'], message, input: policy })
      } else if ('call' in step && step.call.path.startsWith('/')) {
        const message = addressProblem(policy.app.url)
        if (message !== undefined) issues.push({ path: [...at, 'call', 'path'], message, input: policy })
      }
    }
  }
  return issues
}

function addressProblem(url: string | undefined): string | undefined {
  if (url === undefined) return 'expected "app.url" beside it, or a whole URL'
  if (isCallUrl(url)) return undefined
  return 'expected an "app.url" with https:// beside it (http:// only for localhost), because a signed call is readable on the way without'
}

function reportProblem(name: string, reports: Record<string, ReportPolicy>): string | undefined {
  if (name === databaseReport) return undefined
  const report = Object.hasOwn(reports, name) ? reports[name] : undefined
  if (report === undefined) {
    const near = nearest(name, [...Object.keys(reports), databaseReport])
    return `expected a report of "reports"${near === undefined ? '' : `; did you mean "${near}"?`}`
  }
  if (report.into === undefined && report.store === undefined)
    return 'expected a report with "into" or "store": what a job reports must be kept somewhere'
  return undefined
}
