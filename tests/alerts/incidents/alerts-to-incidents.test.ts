import { beforeEach, describe, expect, test } from 'vitest'
import {
  acknowledgeIncident,
  applyToIncidents,
  type Incident,
  listIncidents,
  publicIncidents,
  showIncident,
  tickIncidents,
} from '../../../lib/alerts/incidents/index.ts'
import { enqueueNotification } from '../../../lib/alerts/index.ts'
import type { AlertChange } from '../../../lib/alerts/types.ts'
import { defineConfig, type PolicyInput } from '../../../lib/config/index.ts'
import { fixedClock } from '../../../lib/platform/clock.ts'
import type { Context } from '../../../lib/platform/context.ts'
import { testContext } from '../../support/context.ts'
import { useTestDatabase } from '../../support/database.ts'

const database = useTestDatabase()
const minute = 60_000
const hour = 60 * minute

let clock: ReturnType<typeof fixedClock>
let ctx: Context

const policy = (incidents: PolicyInput['incidents'] = {}) =>
  defineConfig({
    app: { name: 'Test' },
    alerts: { channels: { slack: {}, pagerduty: {} }, remindEvery: '4 hours' },
    incidents,
  })

const twoSeverities: PolicyInput['incidents'] = {
  severities: {
    high: { respondWithin: '15 minutes', escalateAfter: '1 hour', notify: ['slack'], escalateTo: ['pagerduty'], public: true },
    low: { respondWithin: '2 hours', notify: ['slack'] },
  },
}

beforeEach(async () => {
  await database.db.execute('truncate caretaker.incidents, caretaker.notifications cascade')
  clock = fixedClock('2026-11-23T10:00:00Z')
  ctx = testContext(database.db, { clock, config: policy(twoSeverities) })
})

test('a firing alert opens an incident, which ends when it is clear', async () => {
  await apply(firing('database'))
  const [incident] = await listIncidents(ctx)
  expect(incident).toMatchObject({
    number: 1,
    component: 'database',
    severity: 'high',
    state: 'investigating',
    public: true,
    channels: ['slack'],
  })
  clock.advance(10 * minute)
  await apply(cleared('database'))
  expect(await listIncidents(ctx)).toMatchObject([{ number: 1, state: 'resolved', resolvedBy: { type: 'system' } }])
  expect(await told()).toEqual(['opened slack', 'resolved slack'])
})

async function apply(...changes: AlertChange[]): Promise<void> {
  await ctx.db.transaction(async (tx) => {
    await applyToIncidents(tx, ctx, changes, clock.now())
    await tickIncidents(tx, ctx, clock.now())
  })
}

function firing(component: string, more: Partial<AlertChange> = {}): AlertChange {
  return {
    alertId: `${component}-alert`,
    rule: `${component}-rule`,
    component,
    severity: 'high',
    change: 'firing',
    since: clock.now(),
    summary: `${component} is down`,
    affected: [],
    ...more,
  }
}

const cleared = (component: string, more: Partial<AlertChange> = {}) => firing(component, { change: 'resolved', ...more })

/** What was told, in order: "opened slack". */
async function told(): Promise<string[]> {
  const rows = await ctx.db.query<{ kind: string; channel: string }>('select kind, channel from caretaker.notifications order by id')
  return rows.map(({ kind, channel }) => `${kind} ${channel}`)
}
