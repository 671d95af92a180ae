import { beforeEach, describe, expect, it } from 'vitest'
import { applyToIncidents } from '../../../lib/alerts/incidents/apply-alerts.ts'
import { describeEvent } from '../../../lib/alerts/incidents/describe-event.ts'
import {
  acknowledgeIncident,
  countOldIncidents,
  type Incident,
  listIncidents,
  openIncident,
  pruneIncidents,
  resolveIncident,
  showIncident,
  tickIncidents,
} from '../../../lib/alerts/incidents/index.ts'
import type { AlertChange } from '../../../lib/alerts/types.ts'
import { defineConfig, type PolicyInput } from '../../../lib/config/index.ts'
import { fixedClock } from '../../../lib/platform/clock.ts'
import type { Context } from '../../../lib/platform/context.ts'
import { readEnv } from '../../../lib/platform/env.ts'
import { testContext } from '../../support/context.ts'
import { useTestDatabase } from '../../support/database.ts'

const test = useTestDatabase()
const minute = 60_000
const hour = 60 * minute

const severities: NonNullable<PolicyInput['incidents']>['severities'] = {
  high: { respondWithin: '15 minutes', escalateAfter: '1 hour', notify: ['slack'], escalateTo: ['pagerduty'], public: true },
  low: { respondWithin: '2 hours', notify: ['email'] },
}

let clock: ReturnType<typeof fixedClock>
let ctx: Context

function use(incidents: PolicyInput['incidents'], environment = 'test'): void {
  ctx = testContext(test.db, {
    clock,
    env: readEnv({ CARETAKER_ENVIRONMENT: environment }),
    config: defineConfig({
      app: { name: 'Test', timezone: 'Europe/Berlin' },
      alerts: { channels: { slack: {}, email: { to: ['operations@example.org'] }, pagerduty: {} }, remindEvery: '4 hours' },
      incidents,
    }),
  })
}

beforeEach(async () => {
  await test.db.execute('truncate caretaker.incidents, caretaker.notifications, caretaker.audit cascade')
  clock = fixedClock('2026-11-23T10:00:00Z')
  use({ severities })
})

describe('one incident a cause', () => {
  it('opens with the first alert, takes in the others, and ends with the last', async () => {
    await apply(firing('database'), firing('database', { alertId: 'b', rule: 'slow', affected: ['rls'] }))
    clock.advance(minute)
    await apply(firing('database', { alertId: 'c', rule: 'pool', affected: ['rls', 'jobs'] }))
    expect(await listIncidents(ctx)).toMatchObject([
      {
        number: 1,
        title: 'database is down',
        component: 'database',
        severity: 'high',
        public: true,
        affected: ['rls', 'jobs'],
        channels: ['slack'],
      },
    ])
    await apply(cleared('database'), cleared('database', { alertId: 'b' }))
    expect(await only()).toMatchObject({ state: 'investigating' })
    await apply(cleared('database', { alertId: 'c' }))
    expect(await only()).toMatchObject({ state: 'resolved', resolvedBy: { type: 'system' } })
    expect(await told()).toEqual(['opened slack', 'resolved slack'])
    const { alerts } = await showIncident(ctx, '1')
    expect(alerts.map(({ alert, clearedAt }) => [alert, clearedAt !== null])).toEqual([
      ['b', true],
      ['database', true],
      ['c', true],
    ])
  })

  it('tells the same change twice once', async () => {
    await apply(firing('database'))
    await apply(firing('database'))
    await apply(cleared('database'))
    await apply(cleared('database'))
    expect(await told()).toEqual(['opened slack', 'resolved slack'])
    const { timeline } = await showIncident(ctx, '1')
    expect(timeline.map(({ kind }) => kind)).toEqual(['opened', 'alert_firing', 'alert_clear', 'resolved'])
  })

  it('keeps causes and environments apart, each with numbers of its own', async () => {
    await apply(firing('database'), firing('stripe', { severity: 'low' }))
    use({ severities }, 'preview')
    await apply(firing('database'))
    expect(await listIncidents(ctx)).toMatchObject([{ number: 1, component: 'database' }])
    use({ severities })
    expect((await listIncidents(ctx)).map(({ number, component }) => [number, component])).toEqual([
      [2, 'stripe'],
      [1, 'database'],
    ])
  })

  it('gives an alert up that turns out to have another cause, and ends with that', async () => {
    await apply(firing('stripe', { alertId: 'a' }))
    await apply(firing('network', { alertId: 'a' }))
    expect((await listIncidents(ctx)).map(({ component, state }) => [component, state])).toEqual([
      ['network', 'investigating'],
      ['stripe', 'resolved'],
    ])
  })

  it('gets more severe by itself, never less', async () => {
    await apply(firing('api', { severity: 'low' }))
    expect(await told()).toEqual(['opened email'])
    clock.advance(minute)
    await apply(firing('api', { alertId: 'worse', severity: 'high' }))
    clock.advance(minute)
    await apply(firing('api', { alertId: 'other', severity: 'low' }))
    await apply(cleared('api', { alertId: 'worse' }))
    const incident = await only()
    expect(incident).toMatchObject({ severity: 'high', public: true, channels: ['slack', 'email'], state: 'investigating' })
    expect(incident.respondBy).toEqual(new Date('2026-11-23T10:16:00Z'))
    expect(await told()).toEqual(['opened email', 'raised slack', 'raised email'])
  })

  it('tells the channels of a rule instead of the severity, and nobody where there are none', async () => {
    await apply(firing('a', { notify: ['pagerduty'] }), firing('b', { notify: [] }))
    expect(await told()).toEqual(['opened pagerduty'])
    await apply(cleared('a'), cleared('b'))
    expect(await told()).toEqual(['opened pagerduty', 'resolved pagerduty'])
  })

  it('tells whom an alert asks for that joins it, though it is no worse', async () => {
    await apply(firing('ai', { notify: [] }))
    expect(await told()).toEqual([])
    clock.advance(minute)
    await apply(firing('ai', { alertId: 'worse', notify: ['pagerduty'] }))
    expect(await told()).toEqual(['opened pagerduty'])
    clock.advance(minute)
    await apply(firing('ai', { alertId: 'third' }), firing('ai', { alertId: 'worse', notify: ['pagerduty'], affected: ['chat'] }))
    expect(await told()).toEqual(['opened pagerduty', 'opened slack'])
    const { timeline } = await showIncident(ctx, '1')
    expect(timeline.map(describeEvent)).toContain('told pagerduty, for alert ai-down')

    await apply(cleared('ai'), cleared('ai', { alertId: 'worse' }), cleared('ai', { alertId: 'third' }))
    clock.advance(minute)
    await apply(firing('ai', { alertId: 'fourth', notify: ['email'] }))
    expect((await told()).slice(4)).toEqual(['reopened slack', 'reopened email', 'reopened pagerduty'])
  })

  it('tells nobody of what nobody is to be told of: not later, not when it is worse, not when it comes back', async () => {
    use({ severities: { top: { escalateAfter: 'immediately' }, ...severities } })
    await apply(firing('ai', { severity: 'low', notify: [] }), firing('chat', { severity: 'top', notify: [] }))
    await pass(3 * hour)
    await apply(firing('ai', { severity: 'high', notify: [] }), firing('ai', { alertId: 'worse', severity: 'top', notify: [] }))
    await pass(9 * hour)
    await apply(cleared('ai'), cleared('ai', { alertId: 'worse' }))
    clock.advance(minute)
    await apply(firing('ai', { severity: 'high', notify: [] }))
    await resolveIncident(ctx, { incident: '2' })
    await pass(5 * hour)
    expect(await told()).toEqual([])
    // Until an alert joins that somebody is to be told of.
    await apply(firing('ai', { alertId: 'loud', severity: 'top' }))
    expect(await told()).toEqual(['opened slack', 'opened email', 'opened pagerduty'])
  })

  it('leaves what a person opened to a person', async () => {
    await openIncident(ctx, { title: 'Uploads are slow', severity: 'low', component: 'storage' })
    await apply(firing('storage', { severity: 'low' }))
    await apply(cleared('storage', { severity: 'low' }))
    expect(await only()).toMatchObject({ title: 'Uploads are slow', state: 'investigating' })
    await expect(openIncident(ctx, { title: 'Again', severity: 'low', component: 'storage' })).rejects.toMatchObject({
      code: 'conflict',
      detail: expect.stringContaining('Incident 1 of "storage" is open already'),
    })
  })
})

describe('what comes back', () => {
  it('within a reminder period is the same incident', async () => {
    await apply(firing('database'))
    await acknowledgeIncident(ctx, { incident: '1' })
    await apply(cleared('database'))
    clock.advance(3 * hour)
    await apply(firing('database'))
    expect(await only()).toMatchObject({ number: 1, state: 'investigating', reopened: 1, acknowledgedAt: null, resolvedAt: null })
    expect(await told()).toEqual(['opened slack', 'acknowledged slack', 'resolved slack', 'reopened slack'])
  })

  it('later is another one', async () => {
    await apply(firing('database'))
    await apply(cleared('database'))
    clock.advance(4 * hour)
    await apply(firing('database'))
    expect((await listIncidents(ctx)).map(({ number, state }) => [number, state])).toEqual([
      [2, 'investigating'],
      [1, 'resolved'],
    ])
  })

  it('again and again is watched for longer each time before it ends, and told no more than twice', async () => {
    for (let turn = 0; turn < 12; turn++) {
      await apply(firing('database'))
      clock.advance(5 * minute)
      await apply(cleared('database'))
      clock.advance(5 * minute)
      await apply()
    }
    expect(await only()).toMatchObject({ state: 'monitoring' })
    expect(await told()).toEqual(['opened slack', 'resolved slack', 'reopened slack', 'escalation pagerduty'])
    clock.advance(4 * hour)
    await apply()
    expect(await only()).toMatchObject({ state: 'resolved' })
    expect((await told()).slice(4)).toEqual(['resolved slack', 'resolved pagerduty'])
    const { reopened } = await only()
    clock.advance(minute)
    await apply(firing('database'))
    expect(await only()).toMatchObject({ state: 'investigating', clearSince: null, reopened: reopened + 1 })
  })

  it('comes back at once where it is another alert, or worse, than what a person ended', async () => {
    await apply(firing('database', { severity: 'low' }), firing('stripe'))
    await resolveIncident(ctx, { incident: '1' })
    await resolveIncident(ctx, { incident: '2' })
    clock.advance(minute)
    await apply(firing('database', { severity: 'high' }), firing('stripe', { alertId: 'other' }))
    expect((await listIncidents(ctx, { state: 'open' })).map(({ component, reopened }) => [component, reopened])).toEqual([
      ['stripe', 1],
      ['database', 1],
    ])
  })

  it('is one of several that people ended, the newest', async () => {
    for (const alertId of ['a', 'b']) {
      await apply(firing('database', { alertId }))
      await resolveIncident(ctx, { incident: alertId === 'a' ? '1' : '2' })
      if (alertId === 'a') await openIncident(ctx, { title: 'By hand', severity: 'high', component: 'database' })
    }
    await pass(4 * hour)
    expect((await listIncidents(ctx)).map(({ number, state }) => [number, state])).toEqual([
      [2, 'investigating'],
      [1, 'resolved'],
    ])
    await apply(cleared('database', { alertId: 'a' }), cleared('database', { alertId: 'b' }))
    await pass(4 * hour)
    expect(await listIncidents(ctx, { state: 'open' })).toMatchObject([{ number: 2, openedBy: { type: 'system' } }])
  })

  it('comes back by itself where a person ended it and its alert fires all the same', async () => {
    await apply(firing('database'))
    clock.advance(minute)
    await resolveIncident(ctx, { incident: '1' })
    clock.advance(4 * hour - minute)
    // What the alert says of itself meanwhile was known when the incident was ended.
    await apply(firing('database', { cause: 'refused', affected: ['jobs'] }))
    expect(await only()).toMatchObject({ state: 'resolved', affected: ['jobs'] })
    clock.advance(minute)
    await apply()
    expect(await only()).toMatchObject({ state: 'investigating', reopened: 1 })
    await apply(cleared('database'))
    clock.advance(15 * minute)
    await apply()
    expect(await only()).toMatchObject({ state: 'resolved' })
    clock.advance(24 * hour)
    await apply()
    expect(await told()).toEqual(['opened slack', 'resolved slack', 'reopened slack', 'resolved slack'])
  })
})

describe('timers', () => {
  it('note that nobody responded, escalate once, and remind, until somebody acknowledges', async () => {
    await apply(firing('database'))
    await pass(14 * minute)
    expect((await only()).responseMissedAt).toBeNull()
    await pass(minute)
    expect((await only()).responseMissedAt).toEqual(new Date('2026-11-23T10:15:00Z'))
    await pass(45 * minute)
    expect(await told()).toEqual(['opened slack', 'escalation pagerduty'])
    // Told anew at eleven: the next reminder counts from there.
    await pass(4 * hour - minute)
    expect(await told()).toHaveLength(2)
    await pass(minute)
    expect((await told()).slice(2)).toEqual(['reminder slack', 'reminder pagerduty'])
    await acknowledgeIncident(ctx, { incident: '1' })
    await acknowledgeIncident(ctx, { incident: '1' })
    await pass(48 * hour)
    expect((await told()).slice(4)).toEqual(['acknowledged slack', 'acknowledged pagerduty'])
  })

  it('escalate in the first message where the severity says at once', async () => {
    use({ severities: { worst: { escalateAfter: 'immediately', notify: ['slack'], escalateTo: ['pagerduty'] } } })
    await apply(firing('database', { severity: 'worst' }))
    await pass(hour)
    expect(await told()).toEqual(['opened slack', 'opened pagerduty'])
    expect(await only()).toMatchObject({ escalatedAt: new Date('2026-11-23T10:00:00Z') })
  })

  it('stand a clock that leaps ahead and one that leaps back', async () => {
    await apply(firing('database'))
    await pass(72 * hour)
    expect(await told()).toEqual(['opened slack', 'escalation pagerduty'])
    await pass(-71 * hour)
    expect(await told()).toHaveLength(2)
    // No further off than a reminder period, though it had been set to three days later.
    await pass(4 * hour)
    expect((await told()).slice(2)).toEqual(['reminder slack', 'reminder pagerduty'])
  })

  it('go by business days where the severity says so, in the zone of the app', async () => {
    use({
      severities: { low: { respondWithin: 'next business day' } },
      businessHours: { until: '16:30', holidays: ['2026-11-30'] },
    })
    clock.advance(4 * 24 * hour)
    // A Friday; Monday is a holiday. Berlin is an hour ahead.
    await apply(firing('blemish', { severity: 'low' }))
    expect((await only()).respondBy).toEqual(new Date('2026-12-01T15:30:00Z'))
  })

  it('remind of an acknowledged incident no more, nor of one that is clear and watched', async () => {
    await apply(firing('database'))
    await apply(cleared('database'))
    await apply(firing('database'))
    await apply(cleared('database'))
    expect(await only()).toMatchObject({ state: 'monitoring' })
    await test.db.execute(`update caretaker.incidents set next_reminder_at = '2020-01-01', escalate_at = '2020-01-01', escalated_at = null`)
    const before = await told()
    await pass(minute)
    expect(await told()).toEqual(before)
  })
})

it('audits what it does, and does nothing by halves', async () => {
  await expect(
    ctx.db.transaction(async (tx) => {
      await applyToIncidents(tx, ctx, [firing('database')], clock.now())
      throw new Error('killed')
    }),
  ).rejects.toThrow('killed')
  expect([await listIncidents(ctx), await told()]).toEqual([[], []])
  await apply(firing('database'))
  await pass(hour)
  await apply(cleared('database'))
  const rows = await test.db.query<{ action: string }>('select action from caretaker.audit order by seq')
  expect(rows.map(({ action }) => action)).toEqual(['incident.opened', 'incident.escalated', 'incident.resolved'])
})

it('keeps nobody from hearing of one incident because something is wrong with another', async () => {
  await apply(firing('database'), firing('stripe'))
  const reported: unknown[] = []
  ctx = { ...ctx, sentry: { ...ctx.sentry, capture: (error) => void reported.push(error) } }
  await test.db.execute(`create function break() returns trigger language plpgsql as $$ begin raise exception 'broken'; end $$`)
  await test.db.execute(
    `create trigger break before update on caretaker.incidents for each row when (new.component = 'stripe') execute function break()`,
  )
  try {
    await pass(hour)
  } finally {
    await test.db.execute('drop function break() cascade')
  }
  expect(await told()).toEqual(['opened slack', 'opened slack', 'escalation pagerduty'])
  expect(reported).toHaveLength(1)
  await pass(minute)
  expect((await told()).slice(3)).toEqual(['escalation pagerduty'])
})

it('keeps what is over for two years, with its timeline', async () => {
  await apply(firing('database'), firing('stripe'))
  await apply(cleared('database'))
  clock.advance(2 * 365 * 24 * hour)
  expect(await countOldIncidents(ctx)).toBe(0)
  clock.advance(24 * hour)
  expect([await countOldIncidents(ctx), await pruneIncidents(ctx, 10), await countOldIncidents(ctx)]).toEqual([1, 1, 0])
  // One that is not over stays, however old.
  expect(await only()).toMatchObject({ component: 'stripe' })
  expect(await test.db.query('select distinct incident from caretaker.incident_events')).toHaveLength(1)
})

it('stands an alert and people at once', async () => {
  await apply(firing('database'), firing('database', { alertId: 'c' }))
  await Promise.all([
    apply(firing('database', { alertId: 'b' }), firing('stripe')),
    apply(cleared('database', { alertId: 'c' })),
    openIncident(ctx, { title: 'Something', severity: 'high' }),
    openIncident(ctx, { title: 'Something else', severity: 'high' }),
    ...Array.from({ length: 4 }, () => acknowledgeIncident(ctx, { incident: '1' })),
  ])
  const incidents = await listIncidents(ctx, { state: 'open' })
  expect(incidents.map(({ number }) => number)).toEqual([4, 3, 2, 1])
  expect((await told()).filter((one) => one.startsWith('acknowledged'))).toEqual(['acknowledged slack'])
})

async function apply(...changes: AlertChange[]): Promise<void> {
  await ctx.db.transaction(async (tx) => {
    await applyToIncidents(tx, ctx, changes, clock.now())
    await tickIncidents(tx, ctx, clock.now())
  })
}

/** Time passes, and the tick after it comes. */
async function pass(ms: number): Promise<void> {
  clock.advance(ms)
  await apply()
}

function firing(component: string, more: Partial<AlertChange> = {}): AlertChange {
  return {
    alertId: component,
    rule: `${component}-down`,
    component,
    severity: 'high',
    change: 'firing',
    since: clock.now(),
    summary: `${component} is down`,
    affected: [],
    ...more,
  }
}

function cleared(component: string, more: Partial<AlertChange> = {}): AlertChange {
  return firing(component, { change: 'resolved', ...more })
}

async function only(): Promise<Incident> {
  const [incident, ...others] = await listIncidents(ctx)
  if (incident === undefined || others.length > 0)
    throw new Error(`expected one incident, found ${others.length + (incident === undefined ? 0 : 1)}`)
  return incident
}

/** What was noted to be told, in order: "opened slack". */
async function told(): Promise<string[]> {
  const rows = await test.db.query<{ kind: string; channel: string }>('select kind, channel from caretaker.notifications order by id')
  return rows.map(({ kind, channel }) => `${kind} ${channel}`)
}
