import fc from 'fast-check'
import { expect, it } from 'vitest'
import { evaluateAlerts, replayRule } from '../../lib/alerts/index.ts'
import { useTestDatabase } from '../support/database.ts'
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
    [61, null, 'opened', 0],
  ])
  expect(replay).toMatchObject({ unknown: 1, looks: 62, hourlyBefore: new Date(start + 2 * minute) })
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
