import { describe, expect, it } from 'vitest'
import { defineConfig, type PolicyInput } from '../../lib/config/index.ts'
import { CaretakerError } from '../../lib/platform/errors.ts'

/** What is wrong with a policy of one step, as `path: message` lines. */
function problems(step: unknown, more: object = {}): string[] {
  try {
    defineConfig({ app: { name: 'Test', url: 'https://app.example' }, jobs: { daily: { steps: [step] } }, ...more } as PolicyInput)
    return []
  } catch (error) {
    if (!(error instanceof CaretakerError)) throw error
    return error.issues.map((issue) => `${issue.path}: ${issue.message}`)
  }
}

const monthly = { sql: 'select 1 as one', into: 'monthly_reports' }

describe('steps of a job', () => {
  it.each<[unknown, object?]>([
    [{ reindex: ['idx_a', { table: 'app.t' }], budget: '10 minutes' }],
    [{ call: { path: '/api/jobs/sync' } }],
    [{ call: { path: '/api/jobs/sync?full=1', method: 'GET', timeout: '5 seconds', retries: 0 } }],
    [{ call: { path: 'https://other.example/hook', body: { deep: [1, null, { a: 'b' }] } } }],
    [{ call: { path: 'http://localhost:3000/hook' } }],
    [{ run: () => Promise.resolve() }],
    [{ report: 'database' }],
    [{ report: 'monthly' }, { reports: { monthly } }],
    [{ report: 'monthly' }, { reports: { monthly: { sql: 'select 1 as one', store: 'csv', period: 'month' } } }],
  ])('takes %j', (step, more) => {
    expect(problems(step, more)).toEqual([])
  })

  it.each<[unknown, string, object?]>([
    [{ call: { path: 'api/jobs' } }, 'call.path: found "api/jobs", expected a path such as "/api/jobs/sync", or an https:// URL'],
    [{ call: { path: '//evil.example/x' } }, 'call.path: found "//evil.example/x", expected a path'],
    [{ call: { path: 'http://other.example/x' } }, 'call.path: found "http://other.example/x", expected a path'],
    [{ call: { path: 'https://me:secret@x.example/' } }, 'call.path: found "https://…@x.example/", expected a path'],
    [{ call: { path: '/x' } }, 'call.path: found "/x", expected "app.url" beside it, or a whole URL', { app: { name: 'Test' } }],
    [{ call: { path: '/x', method: 'PUT' } }, 'call.method: found "PUT", expected "POST" or "GET"'],
    [{ call: { path: '/x', body: { at: new Date(0) } } }, 'call.body: found {"at":"1970-01-01T00:00:00.000Z"}, expected a JSON value'],
    [{ call: { path: '/x', retries: 21 } }, 'call.retries: found 21, expected at most 20'],
    [{ call: { path: '/x', timeout: '5s' } }, 'call.timeout: found "5s", expected a duration'],
    [{ call: { pth: '/x' } }, 'call.pth: not a known key; did you mean "path"?'],
    [{ run: 'sync' }, 'run: found "sync", expected a function (app, run) => Promise<…>'],
    [{ vacuum: ['t'], budget: 'long' }, 'budget: found "long", expected a duration'],
    [{ reindex: [{ tabel: 't' }] }, 'reindex.0.tabel: not a known key; did you mean "table"?'],
    [{ report: 'monthy' }, 'report: found "monthy", expected a report of "reports"; did you mean "monthly"?', { reports: { monthly } }],
    [
      { report: 'adhoc' },
      'report: found "adhoc", expected a report with "into" or "store": what a job reports must be kept somewhere',
      { reports: { adhoc: { sql: 'select 1' } } },
    ],
  ])('refuses %j', (step, line, more) => {
    const found = problems(step, more)
    expect(
      found.some((problem) => problem.startsWith(`jobs.daily.steps.0.${line}`)),
      found.join('\n'),
    ).toBe(true)
  })
})

describe('reports', () => {
  it.each<[object, string]>([
    [{ database: monthly }, 'reports.database: found {"sql":"select 1 as one","into":"monthly_reports"}, expected another name'],
    [{ monthly: { ...monthly, period: 'fortnight' } }, 'reports.monthly.period: found "fortnight", expected "hour" or "day"'],
    [{ monthly: { ...monthly, into: { table: 't', key: [] } } }, 'reports.monthly.into.key: found [], expected at least 1'],
    [{ monthly: { ...monthly, store: 'xlsx' } }, 'reports.monthly.store: found "xlsx", expected "csv" or "json"'],
    [{ monthly: {} }, 'reports.monthly.sql: found nothing, expected string'],
    [{ 'Monthly Report': monthly }, 'reports.Monthly Report: not a usable name, expected lower-case letters, digits and hyphens'],
  ])('refuses %j', (reports, line) => {
    const found = problems({ analyze: 'all' }, { reports })
    expect(
      found.some((problem) => problem.startsWith(line)),
      found.join('\n'),
    ).toBe(true)
  })
})
