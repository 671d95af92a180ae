import { describe, expect, it } from 'vitest'
import { measure, measureSeries } from '../../lib/metrics/index.ts'
import { setMark } from '../../lib/metrics/marks.ts'
import { rollUp } from '../../lib/metrics/roll-up.ts'
import { useTestDatabase } from '../support/database.ts'
import { at, metricsContext, request, tell } from './support.ts'

const test = useTestDatabase()
const five = 300

describe('measure', () => {
  it('knows no figure of a metric nobody told, which is not zero', async () => {
    const ctx = metricsContext(test.db)
    expect(await measure(ctx, { metric: 'http.error_rate', overSeconds: five }, at('12:00:00'))).toEqual([
      { labels: {}, value: null, samples: 0 },
    ])
    expect(await measure(ctx, { metric: 'suggestions_generated_total', by: ['trigger_type'], overSeconds: five }, at('12:00:00'))).toEqual(
      [],
    )
  })

  it('takes the 5xx of all requests as the error rate', async () => {
    const ctx = metricsContext(test.db)
    await tell(ctx, request(200), Array<number>(18).fill(1), at('11:58:10'))
    await tell(ctx, request(503), [1], at('11:57:10'))
    await tell(ctx, request(500), [1], at('11:59:10'))
    await tell(ctx, request(500), [1], at('11:40:00'))
    expect(await measure(ctx, { metric: 'http.error_rate', overSeconds: five }, at('12:00:00'))).toEqual([
      { labels: {}, value: 0.1, samples: 20 },
    ])
    // No errors are a rate of zero; no requests are no rate.
    await tell(ctx, request(200), [1, 1], at('12:20:00'))
    ctx.clock.advance(3_600_000)
    expect(await measure(ctx, { metric: 'http.error_rate', overSeconds: five }, at('12:22:00'))).toEqual([
      { labels: {}, value: 0, samples: 2 },
    ])
    expect(await measure(ctx, { metric: 'http.error_rate', overSeconds: five }, at('12:50:00'))).toEqual([
      { labels: {}, value: null, samples: 0 },
    ])
  })

  it('believes the app about its requests, then the log drain, then itself', async () => {
    const ctx = metricsContext(test.db)
    const rate = async (where?: Record<string, string>) =>
      (await measure(ctx, { metric: 'http.error_rate', overSeconds: five, ...(where === undefined ? {} : { where }) }, at('12:00:00')))[0]
        ?.value
    await tell(ctx, request(200, { service: 'caretaker' }), Array<number>(100).fill(1), at('11:58:00'))
    expect(await rate()).toBe(0)
    await tell(ctx, { ...request('5xx', { service: 'vercel' }), source: 'logs' }, [3], at('11:58:00'))
    await tell(ctx, { ...request('2xx', { service: 'vercel' }), source: 'logs' }, [7], at('11:58:00'))
    expect(await rate()).toBe(0.3)
    await tell(ctx, { ...request(500), source: 'app' }, [9], at('11:58:00'))
    await tell(ctx, { ...request(200), source: 'app' }, [1], at('11:58:00'))
    expect(await rate()).toBe(0.9)
    expect(await rate({ service: 'caretaker' })).toBe(0)
    expect(await rate({ service: 'vercel' })).toBe(0.3)
    const requests = await measure(ctx, { metric: 'http.requests', overSeconds: five }, at('12:00:00'))
    expect(requests).toEqual([{ labels: {}, value: 10, samples: 10 }])
  })

  it('counts failed authentications, and finds none where nobody failed', async () => {
    const ctx = metricsContext(test.db)
    const failed = () => measure(ctx, { metric: 'auth.failed', overSeconds: five }, at('12:00:00'))
    await tell(ctx, request(200), [1], at('11:58:00'))
    expect(await failed()).toEqual([{ labels: {}, value: 0, samples: 0 }])
    await tell(ctx, request(401), Array<number>(7).fill(1), at('11:58:00'))
    await tell(ctx, { ...request(403), source: 'app' }, [5], at('11:59:00'))
    expect(await failed()).toEqual([{ labels: {}, value: 12, samples: 12 }])
  })

  it('merges the percentiles of a histogram over minutes and series', async () => {
    const ctx = metricsContext(test.db)
    const series = { name: 'http_request_duration_seconds', kind: 'histogram' as const }
    const slow = Array.from({ length: 100 }, (_, n) => (n + 1) / 10)
    await tell(
      ctx,
      { ...series, labels: { route: '/a' } },
      slow.filter((_, n) => n % 2 === 0),
      at('11:56:30'),
    )
    await tell(
      ctx,
      { ...series, labels: { route: '/b' } },
      slow.filter((_, n) => n % 2 === 1),
      at('11:58:30'),
    )
    const [p95] = await measure(ctx, { metric: 'http.p95', overSeconds: five }, at('12:00:00'))
    expect(Math.abs((p95?.value ?? 0) - 9.5) / 9.5).toBeLessThan(0.0501)
    expect(p95?.samples).toBe(100)
    const stat = async (name: 'average' | 'max' | 'min' | 'per_second') =>
      (await measure(ctx, { metric: series.name, stat: name, overSeconds: five }, at('12:00:00')))[0]?.value
    expect(await stat('average')).toBeCloseTo(5.05)
    expect(await stat('max')).toBe(10)
    expect(await stat('min')).toBe(0.1)
    expect(await stat('per_second')).toBeCloseTo(100 / 300)
  })

  it('holds the last value of a gauge for twice its interval', async () => {
    const ctx = metricsContext(test.db)
    const series = { name: 'storage_used_ratio', kind: 'gauge' as const, source: 'gauge' as const, everySeconds: 300 }
    await tell(ctx, { ...series, labels: { bucket: 'a' } }, [0.4, 0.5], at('11:50:00'))
    await tell(ctx, { ...series, labels: { bucket: 'b' } }, [0.9], at('11:55:30'))
    const value = async (time: string, more = {}) => await measure(ctx, { metric: series.name, overSeconds: 60, ...more }, at(time))
    expect((await value('11:56:00'))[0]?.value).toBe(0.9)
    expect(await value('11:56:00', { by: ['bucket'] })).toEqual([
      { labels: { bucket: 'a' }, value: 0.5, samples: 1 },
      { labels: { bucket: 'b' }, value: 0.9, samples: 1 },
    ])
    expect((await value('11:56:00', { stat: 'sum', overSeconds: 600 }))[0]?.value).toBeCloseTo(0.9 + 0.5)
    expect((await value('12:05:00'))[0]?.value).toBe(0.9)
    expect((await value('12:07:00'))[0]?.value).toBeNull()
  })

  it('divides one metric by another, label set by label set', async () => {
    const ctx = metricsContext(test.db)
    await tell(ctx, { name: 'ai_timeouts_total', labels: { model: 'a' } }, [3], at('11:58:00'))
    await tell(ctx, { name: 'ai_requests_total', labels: { model: 'a' } }, [60], at('11:58:00'))
    await tell(ctx, { name: 'ai_requests_total', labels: { model: 'b' } }, [40], at('11:58:00'))
    const query = { metric: 'ai_timeouts_total', per: { metric: 'ai_requests_total' }, overSeconds: five }
    expect(await measure(ctx, query, at('12:00:00'))).toEqual([{ labels: {}, value: 0.03, samples: 100 }])
    expect(await measure(ctx, { ...query, by: ['model'] }, at('12:00:00'))).toEqual([
      { labels: { model: 'a' }, value: 0.05, samples: 60 },
      { labels: { model: 'b' }, value: 0, samples: 40 },
    ])
  })

  it('takes silence for zero only while the app tells anything at all', async () => {
    const ctx = metricsContext(test.db)
    await tell(ctx, { name: 'sync_failures_total', source: 'app' }, [4], at('10:00:00'))
    const value = async () => (await measure(ctx, { metric: 'sync_failures_total', overSeconds: five }, at('12:00:00')))[0]?.value
    expect(await value()).toBeNull()
    await setMark(test.db, ctx.environment, 'app', at('11:57:00'))
    expect(await value()).toBe(0)
  })

  it('names a metric it does not know, and a statistic the metric does not have', async () => {
    const ctx = metricsContext(test.db)
    await expect(measure(ctx, { metric: 'http.eror_rate', overSeconds: five }, at('12:00:00'))).rejects.toThrow(
      'did you mean "http.error_rate"',
    )
    await tell(ctx, { name: 'ai_requests_total' }, [1], at('11:58:00'))
    await expect(measure(ctx, { metric: 'ai_requests_total', stat: 'p95', overSeconds: five }, at('12:00:00'))).rejects.toThrow(
      'found "p95" of "ai_requests_total", which is a counter; expected sum, per_second',
    )
    await expect(measure(ctx, { metric: 'ai_requests_total', overSeconds: 0 }, at('12:00:00'))).rejects.toThrow('overSeconds: found 0')
  })
})

describe('a long stretch', () => {
  it('is hours where they are settled and minutes around them: what is summed up already counts the same', async () => {
    const ctx = metricsContext(test.db)
    const duration = { name: 'http_request_duration_seconds', kind: 'histogram' as const }
    const queue = { name: 'queue', kind: 'gauge' as const, labels: { q: 'a' } }
    for (let minute = 7; minute < 720; minute += 31) {
      const then = new Date(at('00:00:00').getTime() + minute * 60_000)
      await tell(ctx, request(minute % 3 === 0 ? 500 : 200), [1, 1], then)
      await tell(ctx, duration, [minute / 100, minute / 50], then)
      await tell(ctx, queue, [minute], then)
    }
    const asked = () =>
      Promise.all(
        [
          { metric: 'http_requests_total' },
          { metric: 'http.error_rate' },
          { metric: 'http.p95' },
          { metric: 'queue' },
          { metric: 'queue', stat: 'min' as const },
          { metric: 'queue', stat: 'average' as const },
        ].map((query) => measure(ctx, { ...query, overSeconds: 11 * 3_600 + 1_800 }, at('12:00:00'))),
      )
    const before = await asked()
    await rollUp(ctx)
    // Hours are read, not the minutes they were made of.
    await test.db.execute(
      `delete from caretaker.metric_points p using caretaker.metric_series s
       where s.id = p.series and s.environment = $1::text and p.at >= $2::timestamptz and p.at < $3::timestamptz`,
      [ctx.environment, at('01:00:00'), at('09:00:00')],
    )
    expect(await asked()).toEqual(before)
    expect(before.flat().every(({ value }) => value !== null)).toBe(true)
  })
})

describe('measureSeries', () => {
  it('says at every step what measure says then', async () => {
    const ctx = metricsContext(test.db)
    const gauge = { name: 'queue', kind: 'gauge' as const, source: 'gauge' as const, everySeconds: 120 }
    for (const [minute, values] of [3, 0, 5, 8, 1, 0, 0, 2].entries()) {
      await tell(ctx, request(200), Array<number>(values).fill(1), at(`11:4${minute}:20`))
      await tell(ctx, request(500), Array<number>(values % 3).fill(1), at(`11:4${minute}:20`))
      if (minute % 3 === 0) await tell(ctx, gauge, [values], at(`11:4${minute}:40`))
    }
    const from = at('11:38:00')
    const to = at('12:00:00')
    for (const query of [
      { metric: 'http_requests_total', overSeconds: five },
      { metric: 'http_requests_total', overSeconds: 60 },
      { metric: 'http.error_rate', overSeconds: five },
      { metric: 'queue', overSeconds: 120 },
      { metric: 'queue', stat: 'max' as const, overSeconds: five },
    ]) {
      const series = await measureSeries(ctx, query, { from, to, stepSeconds: 60 })
      expect(series).toHaveLength(23)
      for (const step of series) {
        const [then] = await measure(ctx, query, step.at)
        expect([query.metric, query.overSeconds, step.at, step.value]).toEqual([query.metric, query.overSeconds, step.at, then?.value])
        expect(step.resolution).toBe('minute')
      }
    }
  })

  it('makes steps of hours of hours, the last of their minutes, and leaves none out', async () => {
    const ctx = metricsContext(test.db)
    for (let minute = 5; minute < 700; minute += 20)
      await tell(ctx, request(minute % 3 === 0 ? 500 : 200), [1], new Date(at('00:00:00').getTime() + minute * 60_000))
    const span = { from: at('02:00:00'), to: at('12:00:00'), stepSeconds: 7_200 }
    const counts = () => measureSeries(ctx, { metric: 'http_requests_total', overSeconds: 7_200 }, span)
    const before = await counts()
    expect(before.map(({ value }) => value)).toEqual([6, 6, 6, 6, 6, 5])
    await rollUp(ctx)
    expect(await counts()).toEqual(before)
    // Between two hours each of them is in one step.
    const odd = await measureSeries(
      ctx,
      { metric: 'http_requests_total', overSeconds: 3_600 },
      { from: at('00:41:10'), to: at('12:41:10'), stepSeconds: 3_600 },
    )
    expect(odd.reduce((sum, { value }) => sum + (value ?? 0), 0)).toBe(35)
    const rate = await measureSeries(ctx, { metric: 'http_requests_total', stat: 'per_second', overSeconds: 7_200 }, span)
    expect(rate[0]?.value).toBeCloseTo(6 / 7_200)
  })
})
