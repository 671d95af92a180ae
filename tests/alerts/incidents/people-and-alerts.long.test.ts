import { expect, it } from 'vitest'
import { applyToIncidents } from '../../../lib/alerts/incidents/apply-alerts.ts'
import {
  acknowledgeIncident,
  type Incident,
  listIncidents,
  openIncident,
  publicIncidents,
  resolveIncident,
  setSeverity,
  tickIncidents,
  updateIncident,
} from '../../../lib/alerts/incidents/index.ts'
import type { AlertChange } from '../../../lib/alerts/types.ts'
import { defineConfig } from '../../../lib/config/index.ts'
import { fixedClock } from '../../../lib/platform/clock.ts'
import type { Context } from '../../../lib/platform/context.ts'
import { readEnv } from '../../../lib/platform/env.ts'
import { hasCode } from '../../../lib/platform/errors.ts'
import { testContext } from '../../support/context.ts'
import { useTestDatabase } from '../../support/database.ts'
import fc from '../../support/fast-check.ts'

const test = useTestDatabase()
const minute = 60_000
const remindMs = 60 * minute
const components = ['database', 'stripe'] as const
const names = ['high', 'middle', 'low'] as const

const config = defineConfig({
  app: { name: 'Test' },
  alerts: { channels: { slack: {}, pagerduty: {}, email: { to: ['ops@example.org'] } }, remindEvery: '1 hour' },
  incidents: {
    severities: {
      high: { respondWithin: '5 minutes', escalateAfter: 'immediately', notify: ['slack'], escalateTo: ['pagerduty'], public: true },
      middle: { respondWithin: '15 minutes', escalateAfter: '30 minutes', notify: ['slack'], escalateTo: ['pagerduty', 'email'] },
      low: { notify: ['email'] },
    },
  },
})

type Step =
  | { do: 'alert'; alert: number; component: (typeof components)[number]; severity: (typeof names)[number]; fires: boolean }
  | { do: 'pass'; minutes: number }
  | { do: 'ack' | 'resolve' | 'update'; nth: number }
  | { do: 'severity'; nth: number; severity: (typeof names)[number] }
  | { do: 'open'; component: (typeof components)[number] | undefined; severity: (typeof names)[number] }

const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 5,
    arbitrary: fc.record({
      do: fc.constant('alert' as const),
      alert: fc.constantFrom(0, 0, 0, 1),
      component: fc.constantFrom('database' as const, 'database' as const, 'stripe' as const),
      severity: fc.constantFrom(...names),
      fires: fc.boolean(),
    }),
  },
  // Back as well: a clock may be set.
  { weight: 4, arbitrary: fc.record({ do: fc.constant('pass' as const), minutes: fc.constantFrom(1, 5, 20, 20, 61, 300, -30) }) },
  { weight: 3, arbitrary: fc.record({ do: fc.constantFrom('ack' as const, 'resolve' as const, 'update' as const), nth: fc.nat(3) }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('severity' as const), nth: fc.nat(3), severity: fc.constantFrom(...names) }) },
  {
    weight: 1,
    arbitrary: fc.record({
      do: fc.constant('open' as const),
      component: fc.constantFrom(...components, undefined),
      severity: fc.constantFrom(...names),
    }),
  },
)

/** What comes from the database breaks before it, and outlasts it. */
const causeAfterwards: Step[] = [
  { do: 'alert', alert: 0, component: 'stripe', severity: 'high', fires: true },
  { do: 'pass', minutes: 1 },
  { do: 'alert', alert: 0, component: 'database', severity: 'low', fires: true },
  { do: 'pass', minutes: 20 },
  { do: 'alert', alert: 0, component: 'database', severity: 'low', fires: false },
]

let runs = 0
let merges = 0

it('whatever alerts, people and the clock do, there is one incident a cause, nobody is asked for in vain, and every end is told', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 5, maxLength: 40 }), fc.boolean(), async (script, stands) => {
      const clock = fixedClock('2026-11-23T10:00:00Z')
      const env = readEnv({ CARETAKER_ENVIRONMENT: `run-${++runs}` })
      const ctx = testContext(test.db, { clock, config, env, actor: { type: 'operator', id: 'someone', role: 'admin' } })
      const alerts = new Alerts(ctx, stands)
      let wentBack = false
      for (const one of script) {
        if (one.do === 'pass') {
          clock.advance(one.minutes * minute)
          wentBack ||= one.minutes < 0
          await alerts.look()
        } else if (one.do === 'alert') await alerts.look(one)
        else await person(ctx, one)
        await oneACause(ctx)
      }
      // What fires is known in the end, whatever people said of it; what does not is over, unless a person opened it.
      clock.advance(remindMs)
      await alerts.look()
      const open = await listIncidents(ctx, { state: 'open' })
      const fires = [...alerts.firing.values()].map(({ alert }) => alert)
      const broken = new Set(fires.filter((alert) => !alerts.isExplained(alert)).map(({ component }) => component))
      for (const component of broken) expect(open.map((one) => one.component)).toContain(component)
      clock.advance(remindMs)
      await evaluate(
        ctx,
        fires.map((alert) => ({ ...alert, change: 'resolved' as const, since: clock.now() })),
      )
      clock.advance(remindMs)
      await evaluate(ctx, [])
      const left = await listIncidents(ctx, { state: 'open', limit: 1_000 })
      expect(left.filter(({ openedBy }) => openedBy.type === 'alert')).toEqual([])
      await everythingWasTold(ctx, wentBack)
      for (const { updates, state } of await publicIncidents(ctx)) {
        expect(updates.at(-1)?.state).toBe('investigating')
        expect(updates[0]?.state).toBe(state)
      }
      merges += alerts.merged
    }),
    { numRuns: 40, examples: [[causeAfterwards, true]] },
  )
  expect(merges).toBeGreaterThan(0)
})

/** What fires, as alerts keep it between two looks. Where `stands`, Stripe comes from the database. */
class Alerts {
  readonly firing = new Map<string, { alert: AlertChange; announced: boolean }>()
  merged = 0
  readonly ctx: Context
  readonly stands: boolean
  constructor(ctx: Context, stands: boolean) {
    this.ctx = ctx
    this.stands = stands
  }

  isExplained({ component }: AlertChange): boolean {
    return this.stands && component === 'stripe' && [...this.firing.values()].some(({ alert }) => alert.component === 'database')
  }

  /** One look, with what is new of one alert. */
  async look(one?: Extract<Step, { do: 'alert' }>): Promise<void> {
    const now = this.ctx.clock.now()
    const changes: AlertChange[] = []
    const id = one === undefined ? '' : `${one.component}-${one.alert}`
    if (one !== undefined) {
      const before = this.firing.get(id)
      if (one.fires) {
        const alert: AlertChange = {
          ...{ alertId: id, rule: id, component: one.component, severity: one.severity },
          ...{ change: 'firing', since: now, summary: `${id} fires`, affected: [] },
        }
        this.firing.set(id, { alert, announced: before?.announced ?? false })
      } else {
        if (before?.announced === true) changes.push({ ...before.alert, change: 'resolved', since: now })
        this.firing.delete(id)
      }
    }
    for (const [known, standing] of this.firing) {
      const { alert, announced } = standing
      if (this.isExplained(alert)) {
        if (announced) changes.push({ ...alert, change: 'explained', root: 'database' })
      } else if (!announced || known === id) {
        changes.push(alert)
        standing.announced = true
      }
    }
    for (const merged of await evaluate(this.ctx, changes)) {
      const standing = this.firing.get(merged)
      if (standing !== undefined) standing.announced = false
      this.merged++
      // Whoever is told of it no more is told of its cause.
      expect((await listIncidents(this.ctx, { state: 'open' })).map(({ component }) => component)).toContain('database')
    }
  }
}

async function evaluate(ctx: Context, changes: readonly AlertChange[]): Promise<string[]> {
  return ctx.db.transaction(async (tx) => {
    const merged = await applyToIncidents(tx, ctx, changes, ctx.clock.now())
    await tickIncidents(tx, ctx, ctx.clock.now())
    return merged
  })
}

/** Somebody does something to one of the open incidents, or opens one; what is refused is refused for a reason. */
async function person(ctx: Context, one: Exclude<Step, { do: 'alert' | 'pass' }>): Promise<void> {
  try {
    if (one.do === 'open') {
      await openIncident(ctx, { title: 'By hand', severity: one.severity, component: one.component })
      return
    }
    const open = await listIncidents(ctx, { state: 'open' })
    const incident = open[one.nth % Math.max(1, open.length)]?.id
    if (incident === undefined) return
    if (one.do === 'ack') await acknowledgeIncident(ctx, { incident })
    else if (one.do === 'resolve') await resolveIncident(ctx, { incident })
    else if (one.do === 'severity') await setSeverity(ctx, { incident, severity: one.severity })
    else await updateIncident(ctx, { incident, state: 'identified', message: 'We know.' })
  } catch (error) {
    if (!hasCode(error, 'conflict')) throw error
  }
}

async function oneACause(ctx: Context): Promise<void> {
  const open = (await listIncidents(ctx, { state: 'open', limit: 1_000 })).flatMap(({ component }) => component ?? [])
  expect(open).toHaveLength(new Set(open).size)
}

interface Told extends Record<string, unknown> {
  incident: string
  channel: string
  kind: string
  at: Date
}

/** Of each incident and channel: begun once, asked for again only after a reminder period and by nobody who has it, ended last. */
async function everythingWasTold(ctx: Context, wentBack: boolean): Promise<void> {
  const rows = await test.db.query<Told>(
    `select incident::text as incident, channel, kind, created_at as at from caretaker.notifications where environment = $1 order by id`,
    [ctx.env.CARETAKER_ENVIRONMENT],
  )
  const incidents = new Map((await listIncidents(ctx, { limit: 1_000 })).map((one): [string, Incident] => [one.id, one]))
  for (const told of Map.groupBy(rows, ({ incident, channel }) => `${incident} ${channel}`).values()) {
    const kinds = told.map(({ kind }) => kind)
    const where = kinds.join(' ')
    const incident = incidents.get(told[0]?.incident ?? '')
    let asks = true
    let over = false
    let paged: Date | undefined
    for (const { kind, at } of told) {
      if (over) expect(kind, where).toBe('reopened')
      if (kind === 'reminder') {
        expect(asks, where).toBe(true)
        if (paged !== undefined && !wentBack) expect(at.getTime() - paged.getTime(), where).toBeGreaterThanOrEqual(remindMs)
      }
      if (kind === 'escalation') expect(asks, where).toBe(true)
      if (kind === 'acknowledged') asks = false
      if (kind === 'opened' || kind === 'reopened') asks = true
      if (['opened', 'reopened', 'reminder', 'escalation', 'raised'].includes(kind)) paged = at
      over = kind === 'resolved'
    }
    expect(kinds.filter((kind) => kind === 'opened').length, where).toBeLessThanOrEqual(1)
    expect(over, where).toBe(incident?.state === 'resolved')
  }
}
