import { expect, it } from 'vitest'
import { evaluateAlerts, replayRule } from '../../lib/alerts/index.ts'
import { useTestDatabase } from '../support/database.ts'
import fc from '../support/fast-check.ts'
import { alertContext, newWorld, sourcesOf } from './world.ts'

/*
 * What a replay says would have been told is what was told: the same minutes, lived through once and replayed afterwards.
 */

const test = useTestDatabase()
const minute = 60_000
const start = new Date('2026-11-21T12:00:00Z').getTime()
const length = 45
const at = (minutes: number) => new Date(start + minutes * minute)

const parts = ['a', 'b'] as const
const rules = [{ name: 'errors', metric: 'app_errors', by: ['part'], above: 5, severity: 'P1', component: 'jobs', for: '1 minute' }]

/** Stretches of minutes in which it is bad, well, or not known. */
const figures = fc
  .array(fc.tuple(fc.constantFrom(9, 9, 1, 1, null), fc.integer({ min: 1, max: 9 })), { minLength: 8, maxLength: 20 })
  .map((stretches) => stretches.flatMap(([value, minutes]) => Array.from({ length: minutes }, () => value)))
  .map((values) => Array.from({ length: length + 1 }, (_, index) => values[index] ?? 1))
const stretch = fc.tuple(fc.integer({ min: 0, max: length }), fc.integer({ min: 1, max: 15 })).map(([from, minutes]) => ({
  from,
  until: from + minutes,
}))
const history = fc.record({
  a: figures,
  b: figures,
  silences: fc.array(fc.record({ span: stretch, pattern: fc.constantFrom('errors', 'a', 'stripe') }), { maxLength: 2 }),
  maintenance: fc.array(fc.record({ span: stretch, component: fc.constantFrom('jobs', 'database', 'stripe') }), { maxLength: 2 }),
  // Of a cause that is there before anything is told; one that shows later makes one incident of two.
  databaseDownUntil: fc.constantFrom(0, 3, 12),
})

it('says of every history when people would have been told of what, and what would have been held back', async () => {
  await fc.assert(
    fc.asyncProperty(history, async ({ a, b, silences, maintenance, databaseDownUntil }) => {
      const { ctx, minutes } = alertContext(
        test.db,
        { channels: { slack: {} }, rules, keepFiringFor: '2 minutes', remindEvery: '10 minutes' },
        { incidents: { severities: { P0: {}, P1: {} } } },
      )
      const world = newWorld(['database'])
      const values = { a, b }
      const sources = {
        ...sourcesOf(world),
        measureSeries: (_ctx: unknown, query: { where?: Readonly<Record<string, string>> }) =>
          Promise.resolve(
            values[query.where?.part === 'a' ? 'a' : 'b'].map((value, index) => ({
              ...{ at: at(index), value, samples: 50, resolution: 'minute' as const },
            })),
          ),
      }
      world.pastMaintenance = maintenance.map(({ span, component }) => ({
        ...{ title: 'Work', components: [component], startsAt: at(span.from), endsAt: at(span.until) },
      }))
      world.changes = [
        { check: 'database', at: at(-60), status: databaseDownUntil > 0 ? 'down' : 'up', cause: null },
        { check: 'database', at: at(databaseDownUntil), status: 'up', cause: null },
      ]
      for (const { span, pattern } of silences)
        await test.db.execute(
          `insert into caretaker.silences (environment, matchers, reason, created_by, created_at, ends_at)
           values ($1, $2::jsonb, 'Known', '{"type":"cli"}', $3::timestamptz, $4::timestamptz)`,
          [
            ctx.env.CARETAKER_ENVIRONMENT,
            JSON.stringify([{ key: pattern === 'a' ? 'part' : 'any', pattern }]),
            at(span.from),
            at(span.until),
          ],
        )

      for (let now = 0; now <= length; now++) {
        world.figures.set(
          'app_errors',
          parts.map((part) => ({ labels: { part }, value: values[part][now] ?? null, samples: 50 })),
        )
        if (now < databaseDownUntil) world.down.set('database', 'refused')
        else world.down.delete('database')
        world.maintenance = world.pastMaintenance.filter(({ startsAt, endsAt }) => startsAt <= at(now) && endsAt > at(now))
        await evaluateAlerts(ctx, sources)
        minutes(1)
      }
      const rows = await test.db.query<{ kind: string; at: Date }>(
        `select kind, created_at as at from caretaker.notifications
         where environment = $1 and payload ->> 'component' = 'jobs' and kind <> 'resolved' order by id`,
        [ctx.env.CARETAKER_ENVIRONMENT],
      )
      const live = rows.filter(({ kind }) => kind !== 'reminder').map(({ kind, at: told }) => `${kind} ${told.toISOString()}`)

      const { alerts } = await replayRule(ctx, sources, { rule: 'errors', from: at(0), to: at(length) })
      const pages = alerts.filter(({ page }) => page === 'opened' || page === 'reopened')
      const told = pages.map((one) => ({ page: one.page, at: one.told?.getTime() ?? 0 })).sort((one, other) => one.at - other.at)
      expect(told.map(({ page, at: when }) => `${page} ${new Date(when).toISOString()}`)).toEqual(live)
      const reminders = rows.length - live.length
      expect(alerts.reduce((sum, one) => sum + one.reminders, 0)).toBe(reminders)
      for (const one of alerts) if (one.told === null) expect(one.held).not.toEqual([])
    }),
    { numRuns: 20, endOnFailure: true },
  )
})
