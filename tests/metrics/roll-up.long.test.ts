import { expect, it } from 'vitest'
import { measure, prometheusText } from '../../lib/metrics/index.ts'
import { pruneMetrics } from '../../lib/metrics/prune.ts'
import { rollUp } from '../../lib/metrics/roll-up.ts'
import { useTestDatabase } from '../support/database.ts'
import fc from '../support/fast-check.ts'
import { parsePrometheus } from './prometheus-text.ts'
import { type MetricsContext, metricsContext, tell } from './support.ts'

const test = useTestDatabase()
const minuteMs = 60_000

type Step =
  | { do: 'tell'; series: number; values: number[]; minutesLate: number }
  | { do: 'wait'; minutes: number }
  | { do: 'sum up'; twice: boolean }
  | { do: 'prune' }

const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({
      do: fc.constant('tell' as const),
      series: fc.nat(2),
      values: fc.array(fc.integer({ min: 1, max: 9 }), { minLength: 1, maxLength: 3 }),
      minutesLate: fc.nat(180),
    }),
  },
  {
    weight: 3,
    arbitrary: fc.record({ do: fc.constant('wait' as const), minutes: fc.oneof(fc.integer({ min: 1, max: 200 }), fc.constant(8 * 1_440)) }),
  },
  { weight: 3, arbitrary: fc.record({ do: fc.constant('sum up' as const), twice: fc.boolean() }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('prune' as const) }) },
)

/** What ever was, as Prometheus reads it. */
async function totals(ctx: MetricsContext): Promise<{ counter: number; observations: number }> {
  const families = parsePrometheus(await prometheusText(ctx))
  const sum = (name: string, suffix = '') =>
    (families.get(name)?.samples ?? []).filter((sample) => sample.name === name + suffix).reduce((all, { value }) => all + value, 0)
  return { counter: sum('things_total'), observations: sum('thing_seconds', '_count') }
}

it('loses nothing and counts nothing twice, however late things are told and whenever hours are summed up and minutes go', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 5, maxLength: 25 }), async (steps) => {
      const ctx = metricsContext(test.db, { at: '2026-11-21T00:30:00Z' })
      let told = 0
      let observed = 0
      let summedAt = ctx.clock.now().getTime()
      let before = { counter: 0, observations: 0 }
      for (const one of steps) {
        const now = ctx.clock.now()
        if (one.do === 'tell') {
          const then = new Date(now.getTime() - one.minutesLate * minuteMs)
          const labels = { series: String(one.series) }
          await tell(ctx, { name: 'things_total', labels }, one.values, then, now)
          await tell(ctx, { name: 'thing_seconds', kind: 'histogram', labels }, one.values, then, now)
          told += one.values.reduce((sum, value) => sum + value, 0)
          observed += one.values.length
        } else if (one.do === 'wait') ctx.clock.advance(one.minutes * minuteMs)
        else if (one.do === 'prune') {
          // Another environment's job tidies up; what nobody sums up for a month goes.
          if (now.getTime() - summedAt > 29 * 86_400_000) await rollUp(ctx)
          await pruneMetrics(ctx)
        } else {
          summedAt = now.getTime()
          await Promise.all([rollUp(ctx), ...(one.twice ? [rollUp({ ...ctx })] : [])])
        }
        const after = await totals(ctx)
        expect(after.counter).toBeGreaterThanOrEqual(before.counter)
        expect(after.observations).toBeGreaterThanOrEqual(before.observations)
        before = after
      }
      ctx.clock.advance(60 * minuteMs)
      await rollUp(ctx)
      await pruneMetrics(ctx)
      expect(await totals(ctx)).toEqual({ counter: told, observations: observed })
      if (told === 0) return
      const [all] = await measure(ctx, { metric: 'things_total', overSeconds: 399 * 86_400 }, new Date(ctx.clock.now().getTime() + 1))
      expect(all?.value).toBe(told)
    }),
    { numRuns: 40 },
  )
}, 600_000)
