import { describe, expect, it } from 'vitest'
import { defineConfig, type PolicyInput } from '../../lib/config/index.ts'

const issues = (policy: Omit<PolicyInput, 'app'>): string[] => {
  try {
    defineConfig({ app: { name: 'Test' }, ...policy })
    return []
  } catch (error) {
    return (error as { issues: { path: string; message: string }[] }).issues.map(({ path, message }) => `${path}: ${message}`)
  }
}

const rule = { name: 'errors', metric: 'http.error_rate', above: 0.05 }

describe('incidents in the policy', () => {
  it('know the default severities, and say which one was meant', () => {
    expect(issues({ alerts: { rules: [{ ...rule, severity: 'P0' }] } })).toEqual([])
    expect(issues({ alerts: { rules: [{ ...rule, severity: 'P9' }] } })).toEqual([
      'alerts.rules.0.severity: found "P9", expected one of the default severities (P0, P1, P2, P3); did you mean "P0"?',
    ])
  })

  it('hold rules, checks and events against the severities that are written', () => {
    expect(
      issues({
        incidents: { severities: { P1_Critical: {}, P2_High: {} } },
        alerts: {
          channels: { slack: {} },
          rules: [{ ...rule, severity: 'P1_Critcal', notify: ['slak'] }],
          checks: { stripe: { severity: 'P2_High' }, hume: { severity: 'low' }, openai: false },
          events: { 'job.missed': { severity: 'none-of-these' } },
        },
      }),
    ).toEqual([
      'alerts.rules.0.severity: found "P1_Critcal", expected one of "incidents.severities" (P1_Critical, P2_High); did you mean "P1_Critical"?',
      'alerts.rules.0.notify.0: found "slak", expected one of "alerts.channels" (slack); did you mean "slack"?',
      'alerts.checks.hume.severity: found "low", expected one of "incidents.severities" (P1_Critical, P2_High)',
      'alerts.events.job.missed.severity: found "none-of-these", expected one of "incidents.severities" (P1_Critical, P2_High)',
    ])
  })

  it('hold the channels of severities against those there are', () => {
    expect(
      issues({
        incidents: { severities: { high: { notify: ['slack'], escalateAfter: '1 hour', escalateTo: ['pager'] } } },
        alerts: { channels: { pagerduty: {} } },
      }),
    ).toEqual([
      'incidents.severities.high.notify.0: found "slack", expected one of "alerts.channels" (pagerduty)',
      'incidents.severities.high.escalateTo.0: found "pager", expected one of "alerts.channels" (pagerduty)',
    ])
    expect(issues({ incidents: { severities: { high: { notify: ['slack'] } } } })).toEqual([])
  })

  it.each<[string, PolicyInput['incidents'], string]>([
    ['an empty matrix', { severities: {} }, 'incidents.severities: found {}, expected at least one severity'],
    [
      'a name that would change the order',
      { severities: { 1: {} } },
      'incidents.severities.1: not a usable name, expected a letter, then letters, digits, "_" or "-"',
    ],
    [
      'a time that is none',
      { severities: { high: { respondWithin: 'soon' } } },
      'incidents.severities.high.respondWithin: found "soon", expected a duration such as "30 days" (a whole number and one of second, minute, hour, day, week, month, year), or "next business day"',
    ],
    [
      'a zone that is none',
      { businessHours: { timezone: 'Europe/Berln' } },
      'incidents.businessHours.timezone: found "Europe/Berln", expected an IANA time zone such as "Europe/Berlin"',
    ],
    [
      'a day that no calendar has',
      { businessHours: { holidays: ['2026-02-30'] } },
      'incidents.businessHours.holidays.0: found "2026-02-30", expected a day such as "2026-12-25"',
    ],
  ])('refuse %s', (_, incidents, message) => {
    expect(issues({ incidents })).toEqual([message])
  })
})
