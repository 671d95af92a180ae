import { expect, it } from 'vitest'
import { evaluateAlerts, replayRule } from '../../lib/alerts/index.ts'
import { useTestDatabase } from '../support/database.ts'
import fc from '../support/fast-check.ts'
import { alertContext, newWorld, sourcesOf } from './world.ts'

const test = useTestDatabase()
const minute = 60_000
const start = new Date('2026-11-21T12:00:00Z').getTime()

/** Figures a minute apart, as the history has them: the first `hours` of them by the hour. */
const past = (values: readonly (number | null)[], hours = 0) =>
  values.map((value, index) => ({
    at: new Date(start + index * minute),
    value,
    samples: value === null ? 0 : 50,
    resolution: index < hours ? ('hour' as const) : ('minute' as const),
  }))

const minuteOf = (at: Date) => (at.getTime() - start) / minute

const rules = [{ name: 'slow', metric: 'http.p95', above: 5, recover: 4, for: '2 minutes', keepFiringFor: '3 minutes', severity: 'P1' }]

it('tells each time a page would have gone out, how long, and where the history knows hours only', async () => {
  const { ctx } = alertContext(test.db, { rules, remindEvery: '10 minutes' })
  const world = newWorld([])
  const times = (count: number, value: number) => Array.from({ length: count }, () => value)
  world.past = past(
    [...times(4, 1), ...times(28, 9), ...times(6, 1), ...times(3, 9), ...times(9, 1), null, ...times(8, 1), ...times(3, 9)],
    3,
  )
  const to = new Date(start + 61 * minute)
  const replay = await replayRule(ctx, sourcesOf(world), { rule: 'slow', from: new Date(start), to })
  expect(
    replay.alerts.map(({ at, until, page, reminders }) => [minuteOf(at), until === null ? null : minuteOf(until), page, reminders]),
  ).toEqual([
    [6, 35, 'opened', 2],
    [40, 44, 'reopened', 0],
    // It came back once, and so ended only ten minutes after it was well: that is less than ten minutes ago.
    [61, null, 'reopened', 0],
  ])
  expect(replay).toMatchObject({ unknown: 1, looks: 62, hourlyBefore: new Date(start + 2 * minute) })
})

it('tells what would have been held back, by what and until when, as it would have been live', async () => {
  const { ctx } = alertContext(test.db, {
    rules: [{ name: 'errors', metric: 'app_errors', above: 5, severity: 'P1', component: 'jobs', keepFiringFor: '2 minutes' }],
    keepFiringFor: '2 minutes',
    remindEvery: '10 minutes',
  })
  const world = newWorld(['database', 'jobs'])
  const at = (minutes: number) => new Date(start + minutes * minute)
  const bad = [2, 3, 4, 5, 20, 21, 22, 23, 40, 41, 42, 43, 60, 61, 62, 80]
  world.past = past(Array.from({ length: 91 }, (_, index) => (bad.includes(index) ? 9 : 1)))
  world.changes = [
    { check: 'database', at: at(-100), status: 'up', cause: null },
    { check: 'database', at: at(2), status: 'down', cause: 'refused' },
    { check: 'database', at: at(3), status: 'up', cause: null },
  ]
  world.pastMaintenance = [{ title: 'Work', components: ['database'], startsAt: at(39), endsAt: at(50) }]
  const silenced = (matcher: object, from: number, until: number, ended: number | null) =>
    test.db.execute(
      `insert into caretaker.silences (environment, matchers, reason, created_by, created_at, ends_at, ended_at)
       values ($1, $2::jsonb, 'Known', '{"type":"cli"}', $3::timestamptz, $4::timestamptz, $5::timestamptz)`,
      [ctx.env.CARETAKER_ENVIRONMENT, JSON.stringify([matcher]), at(from), at(until), ended === null ? null : at(ended)],
    )
  await silenced({ key: 'rule', pattern: 'errors' }, 19, 600, 22)
  await silenced({ key: 'component', pattern: 'stripe' }, 0, 600, null)
  const replay = await replayRule(ctx, sourcesOf(world), { rule: 'errors', from: at(0), to: at(90) })
  expect(
    replay.alerts.map((one) => [
      minuteOf(one.at),
      one.page,
      one.told === null ? null : minuteOf(one.told),
      one.held.map(({ from, until, because, root }) => [because, root, minuteOf(from), minuteOf(until)]),
    ]),
  ).toEqual([
    // The database is over two minutes after it was well; what still fires then is told.
    [2, 'opened', 5, [['inhibited', 'database', 2, 5]]],
    [20, 'opened', 22, [['silenced', null, 20, 22]]],
    [40, null, null, [['maintenance', null, 40, 46]]],
    [60, 'opened', 60, []],
    [80, 'opened', 80, []],
  ])
  expect(replay.cannotKnow).toEqual([expect.stringContaining('Who acknowledged'), expect.stringContaining('the policy as it is now')])
  // How the database stood before that is nowhere, nor are silences that are no longer kept.
  world.changes = world.changes.slice(1)
  const long = await replayRule(ctx, sourcesOf(world), { rule: 'errors', from: at(-200 * 24 * 60), to: at(90) })
  expect(long.cannotKnow.slice(0, 2)).toEqual([
    expect.stringContaining('is not known of database (before 2026-11-21 12:02 UTC)'),
    expect.stringContaining('Silences that ended before 2026-08-23'),
  ])
})

it('says of every history what would have happened live', async () => {
  const values = fc.array(fc.oneof(fc.constantFrom(9, 4.5, 1), fc.constant(null)), { minLength: 5, maxLength: 25 })
  await fc.assert(
    fc.asyncProperty(values, async (found) => {
      const { ctx, minutes } = alertContext(test.db, { rules })
      const world = newWorld([])
      const sources = sourcesOf(world)
      const live: string[] = []
      for (const value of found) {
        world.figures.set('http.p95', [{ labels: {}, value, samples: value === null ? 0 : 50 }])
        const { fired, resolved } = await evaluateAlerts(ctx, sources)
        if (fired.length > 0) live.push(`fires ${ctx.clock.now().toISOString()}`)
        if (resolved.length > 0) live.push(`over ${ctx.clock.now().toISOString()}`)
        minutes(1)
      }
      world.past = past(found)
      const { alerts } = await replayRule(ctx, sources, {
        rule: 'slow',
        from: new Date(start),
        to: new Date(start + found.length * minute),
      })
      const told = alerts.flatMap(({ at, until }) => [
        `fires ${at.toISOString()}`,
        ...(until === null ? [] : [`over ${until.toISOString()}`]),
      ])
      expect(told).toEqual(live)
    }),
    { numRuns: 12 },
  )
})

it('refuses a time that is none, and a rule that is not there', async () => {
  const { ctx } = alertContext(test.db, { rules })
  const sources = sourcesOf(newWorld([]))
  await expect(replayRule(ctx, sources, { rule: 'slow', from: new Date(start + minute) })).rejects.toMatchObject({ code: 'invalid_input' })
  await expect(replayRule(ctx, sources, { rule: 'slw', from: new Date(start - minute) })).rejects.toMatchObject({
    code: 'not_found',
    detail: expect.stringContaining('did you mean "slow"?'),
  })
})
