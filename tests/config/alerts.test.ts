import { describe, expect, it } from 'vitest'
import { defineConfig, type PolicyInput } from '../../lib/config/index.ts'

const rule = { name: 'slow', metric: 'http.p95', above: 5, severity: 'P1' }
const problems = (policy: Partial<PolicyInput>): string[] => {
  try {
    defineConfig({ app: { name: 'Test' }, ...policy })
    return []
  } catch (error) {
    return (error as { issues: { path: string; message: string }[] }).issues.map(({ path, message }) => `${path}: ${message}`)
  }
}

describe('a policy of alerts', () => {
  it('says of each mistake where it is, what was found and what was expected', () => {
    const alerts = (part: NonNullable<PolicyInput['alerts']>) => problems({ alerts: part })
    expect(alerts({ rules: [{ ...rule, below: 1 }] })).toEqual([
      expect.stringMatching(/^alerts\.rules\.0: .*expected either "above" or "below"$/),
    ])
    expect(alerts({ rules: [{ ...rule, recover: 6 }] })).toEqual([
      expect.stringContaining('expected "recover" on the good side of the threshold'),
    ])
    expect(alerts({ rules: [{ ...rule, for: 'a while' }] })).toEqual([
      expect.stringContaining('alerts.rules.0.for: found "a while", expected a duration'),
    ])
    expect(alerts({ rules: [{ ...rule, abvoe: 5 } as typeof rule] })).toEqual([
      'alerts.rules.0.abvoe: not a known key; did you mean "above"?',
    ])
    expect(alerts({ rules: [rule, rule] })).toEqual([expect.stringContaining('expected another name: there is a rule "slow" before it')])
    for (const name of ['check-database', 'rule-failing', 'channel-failing'])
      expect(alerts({ rules: [{ ...rule, name }] })).toEqual([
        `alerts.rules.0.name: found "${name}", expected another name: Caretaker has a rule of this one`,
      ])
    expect(alerts({ rules: [{ ...rule, name: 'stuck' }], events: { stuck: {} } })).toEqual([
      expect.stringContaining('expected another name: there is an event "stuck"'),
    ])
    expect(alerts({ rules: [{ ...rule, over: '59 seconds' }] })).toEqual([
      'alerts.rules.0.over: found "59 seconds", expected at least "1 minute"',
    ])
    expect(alerts({ storm: { atLeast: 1, within: '1 hour' } })).toEqual([
      'alerts.storm.atLeast: found 1, expected at least 2: one failure is no storm',
      'alerts.storm.within: found "1 hour", expected at most "10 minutes"',
    ])
    expect(alerts({ channels: { team: {} } })).toEqual([
      expect.stringContaining('alerts.channels.team.kind: found nothing, expected one of slack, email'),
    ])
    expect(alerts({ channels: { email: {} } })).toEqual([
      expect.stringContaining('alerts.channels.email.to: found nothing, expected the addresses'),
    ])
    expect(alerts({ channels: { slack: { region: 'eu' } } })).toEqual([
      expect.stringContaining('a channel of the kind slack takes no settings'),
    ])
    expect(alerts({ channels: { slack: {} }, rules: [{ ...rule, notify: ['slak'] }] })).toEqual([
      expect.stringContaining('did you mean "slack"?'),
    ])
    expect(alerts({ rules: [{ ...rule, severity: 'P9' }] })).toEqual([
      expect.stringContaining('expected one of the default severities (P0, P1, P2, P3)'),
    ])
  })

  it('names checks in either spelling, and no others', () => {
    const health = { checks: { database: {}, object_store: {} } }
    expect(problems({ health, alerts: { checks: { 'object-store': false, database: { severity: 'P1', for: '5 minutes' } } } })).toEqual([])
    expect(problems({ health, alerts: { checks: { databse: false } } })).toEqual([expect.stringContaining('did you mean "database"?')])
  })
})
