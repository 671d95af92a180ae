import { describe, expect, it } from 'vitest'
import { defineConfig, type PolicyInput } from '../../lib/config/index.ts'
import { CaretakerError } from '../../lib/platform/errors.ts'
import fc from '../support/fast-check.ts'

const app = { name: 'Test' }

/** What is wrong with a policy, as `path: message` lines. */
function problems(policy: unknown): string[] {
  try {
    defineConfig(policy as PolicyInput)
  } catch (error) {
    if (!(error instanceof CaretakerError)) throw error
    expect(error.code).toBe('policy_invalid')
    const lines = error.issues.map((issue) => `${issue.path}: ${issue.message}`)
    for (const line of lines) expect(error.detail).toContain(line)
    return lines
  }
  return []
}

describe('defineConfig', () => {
  it('wants a name and nothing else', () => {
    expect(defineConfig({ app })).toEqual({ app })
    expect(problems({})).toEqual(['app: found nothing, expected object'])
    expect(problems({ app: {} })).toEqual(['app.name: found nothing, expected string'])
    expect(problems({ app: { name: '' } })).toEqual(['app.name: found "", expected some text, found none'])
    for (const policy of [undefined, null, 'x', 7, []])
      expect(problems(policy)).toEqual([expect.stringMatching(/^\(policy\): found .*, expected object$/)])
  })

  it.each<[string, unknown, string]>([
    ['at the top', { app, retenton: [] }, 'retenton: not a known key; did you mean "retention"?'],
    ['in an object', { app: { name: 'x', timzone: 'UTC' } }, 'app.timzone: not a known key; did you mean "timezone"?'],
    [
      'in a record',
      { app, health: { checks: { stripe: { critcal: true } } } },
      'health.checks.stripe.critcal: not a known key; did you mean "critical"?',
    ],
    [
      'in an array',
      { app, retention: [{ table: 't', action: 'purge', olderThen: '3 days' }] },
      'retention.0.olderThen: not a known key; did you mean "olderThan"?',
    ],
    [
      'in one form of several',
      { app, retention: [{ table: 't', action: { archivTo: 't2' } }] },
      'retention.0.action.archivTo: not a known key; did you mean "archiveTo"?',
    ],
    [
      'in a step of a job',
      { app, jobs: { daily: { steps: [{ vacum: ['t'] }] } } },
      'jobs.daily.steps.0.vacum: not a known key; did you mean "vacuum"?',
    ],
    ['in a different case', { app, Backup: {} }, 'Backup: not a known key; did you mean "backup"?'],
    ['like nothing else', { app, xylophone: 1 }, 'xylophone: not a known key'],
  ])('names an unknown key %s and the nearest that exists', (_name, policy, line) => {
    expect(problems(policy)).toContain(line)
  })

  it('names the key that a misspelt one leaves missing too', () => {
    expect(problems({ app: { nam: 'x' } }).sort()).toEqual([
      'app.nam: not a known key; did you mean "name"?',
      'app.name: found nothing, expected string',
    ])
  })

  it.each<[string, unknown, string]>([
    [
      'a literal or an object',
      { app, retention: [{ table: 't', action: 'delete' }] },
      'retention.0.action: found "delete", expected "purge" or "keep" or expected object',
    ],
    [
      'a wrong value inside of the form that was meant',
      { app, retention: [{ table: 't', action: { archiveTo: 'a b' } }] },
      'retention.0.action.archiveTo: found "a b", expected "table" or "schema.table"',
    ],
    [
      'a wrong schedule',
      { app, schedules: { backup: 'daily' } },
      'schedules.backup: found "daily", expected a cron expression of five fields such as "0 2 * * *"',
    ],
    [
      'a schedule of no form at all',
      { app, schedules: { backup: 7 } },
      'schedules.backup: found 7, expected string or expected object or expected false',
    ],
    [
      "a schedule's wrong field",
      { app, schedules: { backup: { cron: '0 3 * * *', missed: 'never' } } },
      'schedules.backup.missed: found "never", expected "last" or "all" or "skip"',
    ],
    [
      'a wrong way to erase',
      { app, gdpr: { subject: { table: 'users' }, tables: { logs: { erase: 'purge' } } } },
      'gdpr.tables.logs.erase: found "purge", expected "delete" or expected object',
    ],
    [
      "a kept column's wrong term",
      { app, gdpr: { subject: { table: 'users' }, tables: { p: { erase: { keep: 'tax law', until: 'ten years' } } } } },
      'gdpr.tables.p.erase.until: found "ten years", expected a duration such as "30 days"',
    ],
  ])('explains %s', (_name, policy, line) => {
    expect(
      problems(policy).some((problem) => problem.startsWith(line)),
      problems(policy).join('\n'),
    ).toBe(true)
  })

  it.each<[unknown, string]>([
    [{ app, health: { maxAgeSeconds: 0 } }, 'health.maxAgeSeconds: found 0, expected at least 1'],
    [{ app, health: { checks: { a: { timeoutMs: 60_000 } } } }, 'health.checks.a.timeoutMs: found 60000, expected at most 30000'],
    [{ app, health: { checks: { a: { timeoutMs: 100.5 } } } }, 'health.checks.a.timeoutMs: found 100.5, expected'],
    [{ app, app2: 1, backup: { connections: '2' } }, 'backup.connections: found "2", expected'],
    [{ app, backup: { recipients: ['age1short'] } }, 'backup.recipients.0: found "age1short", expected an age recipient'],
    [{ app, backup: { encryption: 'off' } }, 'backup.encryption: found "off", expected "none"'],
    [{ app, backup: { store: 'ftp://x' } }, 'backup.store: found "ftp://x", expected file:///DIR'],
    [{ app, retention: [{ table: 'a.b.c', action: 'purge' }] }, 'retention.0.table: found "a.b.c", expected "table" or "schema.table"'],
    [{ app, jobs: { empty: { steps: [] } } }, 'jobs.empty.steps: found [], expected at least 1'],
    [
      { app, webhooks: { stripe: { on: { 'invoice.paid': 'handler' } } } },
      'webhooks.stripe.on.invoice.paid: found "handler", expected a function',
    ],
  ])('says where, what was found and what was expected: %j', (policy, line) => {
    expect(
      problems(policy).some((problem) => problem.startsWith(line)),
      problems(policy).join('\n'),
    ).toBe(true)
  })

  it('lists everything that is wrong at once', () => {
    expect(problems({ app: {}, backup: { connections: 0 }, retention: [{ table: 't' }], helth: {} })).toHaveLength(4)
  })

  it('cuts long values short', () => {
    const [line] = problems({ app: { name: ['x'.repeat(500)] } })
    expect(line?.length).toBeLessThan(120)
  })

  it('answers anything with a policy or with named problems, never with another error', () => {
    fc.assert(
      fc.property(
        fc.object({ maxDepth: 4 }),
        fc.constantFrom('health', 'retention', 'jobs', 'schedules', 'backup', 'gdpr', 'webhooks', 'maintenance'),
        (value, part) => {
          const policy = { app, [part]: value }
          for (const line of problems(policy)) expect(line).toMatch(/^\S.*: (not a known key|found )/s)
        },
      ),
      { numRuns: 500 },
    )
  })
})
