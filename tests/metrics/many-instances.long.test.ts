import { expect, it } from 'vitest'
import { ingestMetrics, measure, prometheusText } from '../../lib/metrics/index.ts'
import { createRecorder } from '../../lib/metrics/recorder.ts'
import { rollUp } from '../../lib/metrics/roll-up.ts'
import { useTestDatabase } from '../support/database.ts'
import { parsePrometheus } from './prometheus-text.ts'
import { metricsContext } from './support.ts'

const test = useTestDatabase()
const instances = 8
const rounds = 40

it('adds up what many instances tell at once, over the turn of hours, with nothing lost and nothing twice', async () => {
  const ctx = metricsContext(test.db, { at: '2026-11-21T11:58:00Z' })
  const routes = Array.from({ length: 12 }, (_, n) => `/route/${n}`)
  const works: Promise<unknown>[] = []
  let rolling = true
  const rolled = (async () => {
    while (rolling) await rollUp(ctx)
  })()
  for (let round = 0; round < rounds; round++) {
    await Promise.all(
      Array.from({ length: instances }, async (_, instance) => {
        // Some are new in every round, as cold starts are: they know no series yet.
        const recorder = createRecorder(() => ctx)
        for (const [index, route] of (instance % 2 === 0 ? routes : routes.toReversed()).entries())
          recorder.record(
            { method: 'GET', route, status: index % 4 === 0 ? 500 : 200, durationMs: 5 + round, byClock: false },
            (work) => void works.push(work),
          )
        await recorder.flush()
        await ingestMetrics(ctx, {
          id: `${round}-${instance}`,
          metrics: [{ name: 'told_total', type: 'counter', value: 1, labels: { instance: String(instance % 3) } }],
        })
      }),
    )
    // Twelve minutes a round: the hour turns every fifth.
    ctx.clock.advance(12 * 60_000)
  }
  await Promise.all(works)
  rolling = false
  await rolled
  await rollUp(ctx)
  const total = instances * rounds * routes.length
  const families = parsePrometheus(await prometheusText(ctx))
  const sum = (name: string, suffix = '') =>
    (families.get(name)?.samples ?? []).filter((sample) => sample.name === `${name}${suffix}`).reduce((all, { value }) => all + value, 0)
  expect(sum('http_requests_total')).toBe(total)
  expect(sum('http_request_duration_seconds', '_count')).toBe(total)
  expect(sum('told_total')).toBe(instances * rounds)
  const [day] = await measure(ctx, { metric: 'http_requests_total', overSeconds: 24 * 3_600 }, ctx.clock.now())
  expect(day?.value).toBe(total)
}, 600_000)
