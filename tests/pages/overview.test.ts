import { describe, expect, it } from 'vitest'
import type { HealthObservation } from '../../lib/health/index.ts'
import { type OverviewShown, overviewPage } from '../../pages/ops/overview.ts'
import type { View } from '../../pages/ops/shell.ts'

const now = new Date('2026-11-21T03:00:00Z')
const view: View = {
  app: 'Shop',
  environment: 'production',
  timezone: 'UTC',
  now,
  session: { id: 's', name: 'night', role: 'admin', expiresAt: now, csrfToken: 't' },
  once: 'o',
}

const check = (status: HealthObservation['status'], cause: string | null = null) =>
  ({
    check: 'database',
    component: 'database',
    critical: true,
    status,
    cause,
    since: now,
    at: now,
    durationMs: 1,
    dependsOn: [],
  }) as HealthObservation

const job = (name: string, last?: 'done') => ({
  name,
  description: '',
  schedule: null,
  next: null,
  last: last === undefined ? undefined : { state: last, slot: now },
})

const well: OverviewShown = {
  health: [check('up'), check('unknown', 'not_configured')],
  incidents: [],
  jobs: [job('backup', 'done')],
  loss: { coveredUntil: now.toISOString(), lostMs: 60_000, openAgainMs: null, drilledAt: null },
  requests: { open: 0, firstDueAt: null },
  deadEvents: 0,
  deadDeliveries: 0,
  maintenance: [],
  channels: ['slack'],
  errorRate: null,
  p95: null,
}

const page = (change: Partial<OverviewShown>) => overviewPage(view, { ...well, ...change }).markup
const sentence = (change: Partial<OverviewShown>) => /<p class="banner (\w+)">([^<]*)</.exec(page(change))?.slice(1)

describe('the sentence of the overview', () => {
  it('says that everything is well only where it is', () => {
    expect(sentence({})).toEqual(['ok', 'Everything is well.'])
  })

  it('does not where there is no backup to count on, or nobody who would be told', () => {
    expect(sentence({ loss: null })).toEqual(['warn', 'Up, but no backup to count on.'])
    expect(sentence({ loss: { coveredUntil: null, lostMs: null, openAgainMs: null, drilledAt: null } })?.[0]).toBe('warn')
    expect(sentence({ channels: [] })).toEqual(['warn', 'Up, but no channel on which anybody would be told of an outage.'])
    expect(sentence({ loss: null, channels: [], deadEvents: 1 })).toEqual([
      'warn',
      'Up, but 1 dead letter, no backup to count on and no channel on which anybody would be told of an outage.',
    ])
  })

  it('does not call up what nobody has looked at', () => {
    expect(sentence({ health: [check('up'), check('unknown')] })).toEqual(['warn', 'Up, but 1 check not looked at lately.'])
    expect(sentence({ health: [check('unknown'), check('unknown', 'not_configured')] })).toEqual([
      'warn',
      'Nothing current is known: no check was looked at lately.',
    ])
    expect(sentence({ health: [], channels: [] })?.[1]).toMatch(/^Nothing current is known: .*lately; and no channel/)
  })
})

describe('the tile of the jobs', () => {
  it('does not call well what has never run', () => {
    expect(page({ jobs: [job('backup', 'done'), job('sweep')] })).toContain('2 jobs, 1 of them not run yet')
    expect(page({})).toContain('1 job, each well the last time')
  })
})
