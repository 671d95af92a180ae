import { describe, expect, it } from 'vitest'
import { measure, measureSeries, metricsJob, planMetrics } from '../../lib/metrics/index.ts'
import { markOf, setMark } from '../../lib/metrics/marks.ts'
import { pruneMetrics } from '../../lib/metrics/prune.ts'
import { rollUp } from '../../lib/metrics/roll-up.ts'
import type { JobRun } from '../../lib/platform/job.ts'
import { type PosthogEvent, posthogCapture } from '../doubles/posthog.ts'
import { logLines } from '../support/context.ts'
import { useTestDatabase } from '../support/database.ts'
import { doubles } from '../support/doubles.ts'
import { at, type MetricsContext, metricsContext, request, tell } from './support.ts'

const test = useTestDatabase()

const run = (): JobRun => ({
  id: 'run',
  job: 'metrics',
  slot: at('12:00:00'),
  attempt: 1,
  params: {},
  checkpoint: null,
  save: () => Promise.resolve(),
  shouldHandOver: () => false,
  callForHelp: () => Promise.resolve(),
})
const hours = (ctx: MetricsContext) =>
  test.db.query(
    `select h.at, h.count::int, h.sum, h.max, h.last, h.buckets, h.counts::text from caretaker.metric_hours h
     join caretaker.metric_series s on s.id = h.series where s.environment = $1::text order by s.name, s.labels, h.at`,
    [ctx.environment],
  )
const totals = (ctx: MetricsContext) =>
  test.db.query<{ count: number; sum: number; buckets: number[]; counts: number[] }>(
    `select total_count::int as count, total_sum as sum, total_buckets as buckets, total_counts::float8[] as counts
     from caretaker.metric_series where environment = $1::text order by name, labels`,
    [ctx.environment],
  )

describe('hours', () => {
  it('are the sums of their minutes, however often and by however many they are summed up', async () => {
    const ctx = metricsContext(test.db)
    const histogram = { name: 'http_request_duration_seconds', kind: 'histogram' as const }
    await tell(ctx, request(200), [1, 1, 1], at('09:10:00'))
    await tell(ctx, request(200), [1, 1], at('10:50:00'))
    await tell(ctx, histogram, [0.1, 0.2], at('10:10:00'))
    await tell(ctx, histogram, [0.1, 4], at('10:40:00'))
    await tell(ctx, { name: 'queue', kind: 'gauge' }, [7, 3], at('10:40:00'))
    expect(await rollUp(ctx)).toBe(true)
    const once = [await hours(ctx), await totals(ctx)]
    expect(once[0]).toMatchObject([
      { count: 4, sum: expect.closeTo(4.4) },
      { count: 3, sum: 3 },
      { count: 2, sum: 2 },
      { count: 2, max: 7, last: 3 },
    ])
    expect(once[1]?.[0]).toMatchObject({ count: 4, sum: expect.closeTo(4.4) })
    expect((await totals(ctx))[0]?.counts.toSorted()).toEqual([1, 1, 2])
    expect(await rollUp(ctx)).toBe(false)
    await test.db.execute(`update caretaker.metric_marks set at = at - interval '2 hours' where environment = $1::text`, [ctx.environment])
    await Promise.all([rollUp(ctx), rollUp({ ...ctx })])
    expect([await hours(ctx), await totals(ctx)]).toEqual(once)
  })

  it('take in minutes that come late', async () => {
    const ctx = metricsContext(test.db)
    await tell(ctx, request(200), [1], at('11:50:00'))
    await rollUp(ctx)
    ctx.clock.advance(30 * 60_000)
    await tell(ctx, request(200), [1, 1], at('11:55:00'), ctx.clock.now())
    ctx.clock.advance(30 * 60_000)
    await rollUp(ctx)
    expect((await totals(ctx))[0]).toMatchObject({ count: 3, sum: 3 })
    // What is older than two hours counts in the oldest minute that is open.
    await tell(ctx, request(200), [1], at('05:00:00'), ctx.clock.now())
    const open = await measure(ctx, { metric: 'http_requests_total', overSeconds: 7_200 }, at('13:00:00'))
    expect(open[0]?.value).toBe(4)
  })

  it('stay when minutes go, and say so where a series is read', async () => {
    const ctx = metricsContext(test.db)
    for (const minute of ['08:05', '08:20', '08:50']) {
      await tell(ctx, request(200), [1, 1, 1], at(`${minute}:00`))
      await tell(ctx, request(500), [1], at(`${minute}:00`))
    }
    await rollUp(ctx)
    // Of a preview that is gone for longer than hours are kept.
    await setMark(test.db, 'a-preview-that-is-gone', 'rolled', new Date(ctx.clock.now().getTime() - 401 * 86_400_000))
    ctx.clock.advance(8 * 86_400_000)
    await rollUp(ctx)
    await pruneMetrics(ctx)
    expect(await test.db.query(`select name from caretaker.metric_marks where environment = 'a-preview-that-is-gone'`)).toEqual([])
    expect(await markOf(ctx, 'rolled')).not.toBeNull()
    const left = await test.db.query(
      'select from caretaker.metric_points p join caretaker.metric_series s on s.id = p.series where s.environment = $1::text',
      [ctx.environment],
    )
    expect(left).toHaveLength(0)
    const query = { metric: 'http.error_rate', overSeconds: 300 }
    const series = await measureSeries(ctx, query, { from: at('08:10:00'), to: at('09:10:00'), stepSeconds: 1_800 })
    expect(series).toMatchObject([
      { value: 0.25, resolution: 'hour' },
      { value: 0.25, resolution: 'hour' },
      { value: null, resolution: 'hour' },
    ])
    const [counts] = await measureSeries(
      ctx,
      { metric: 'http_requests_total', overSeconds: 300 },
      { from: at('08:10:00'), to: at('08:10:00'), stepSeconds: 60 },
    )
    expect(counts?.value).toBe(1)
    const [month] = await measure(ctx, { metric: 'http_requests_total', overSeconds: 30 * 86_400 }, ctx.clock.now())
    expect(month?.value).toBe(12)
  })
})

describe('the job', () => {
  it('asks each gauge of the policy when it is due, and the others though one fails', async () => {
    await test.db.execute('create table if not exists files (bucket text, bytes bigint)')
    await test.db.execute(`insert into files values ('a', 10), ('a', 20), ('b', 5)`)
    const ctx = metricsContext(test.db, {
      policy: {
        metrics: {
          dashboard: { activeUsers: { daily: { sql: 'select count(*) from files' }, weekly: { sql: 'select nothing' } } },
          errors: { sql: `select now()::text as at, 'x' as message` },
          gauges: {
            stored_bytes: { sql: 'select bucket, sum(bytes) as value from files group by bucket', every: '5 minutes', unit: 'bytes' },
            files: { sql: 'select count(*) from files -- all of them', every: '1 minute', labels: { app: 'test' } },
            nothing: { sql: 'select null::numeric' },
            broken: { sql: 'select secret from nowhere' },
            writes: { sql: 'with gone as (delete from files returning 1) select count(*) from gone' },
            words: { sql: `select 'many'` },
            twice: { sql: 'select 1 union all select 2' },
          },
        },
      },
    })
    const outcome = await metricsJob(ctx, run())
    expect(outcome).toMatchObject({ status: 'done', result: { gauges: 7 } })
    const { failed } = (outcome as unknown as { result: { failed: Record<string, string> } }).result
    expect(Object.keys(failed).sort()).toEqual(['broken', 'twice', 'words', 'writes'])
    expect(failed.broken).toContain('does not exist')
    expect(failed.twice).toContain('several rows without labels')
    const value = async (metric: string, by?: string[]) =>
      (
        await measure(ctx, { metric, overSeconds: 60, ...(by === undefined ? {} : { by }) }, new Date(ctx.clock.now().getTime() + 1_000))
      ).map(({ labels, value: one }) => [...Object.values(labels), one])
    expect(await value('stored_bytes', ['bucket'])).toEqual([
      ['a', 30],
      ['b', 5],
    ])
    expect(await value('files', ['app'])).toEqual([['test', 3]])
    expect(await value('nothing')).toEqual([[null]])
    ctx.clock.advance(60_000)
    expect(await metricsJob(ctx, run())).toMatchObject({ result: { gauges: 1 } })
    ctx.clock.advance(240_000)
    expect(await metricsJob(ctx, run())).toMatchObject({ result: { gauges: 7 } })
    expect((await planMetrics(ctx)).map(({ action, warnings }) => [action, warnings?.length ?? 0])).toEqual([
      ['measure stored_bytes: 30, 5', 0],
      ['measure files: 3', 0],
      ['measure nothing: no data now', 0],
      ['measure broken', 1],
      ['measure writes', 1],
      ['measure words', 1],
      ['measure twice', 1],
      ['read metrics.dashboard.activeUsers.weekly', 1],
      ['read metrics.errors', 1],
      [`sum up the minutes of ${ctx.environment}`, 0],
    ])
  })

  it('measures the database, the queues and how long jobs worked, each run once', async () => {
    const ctx = metricsContext(test.db, { env: { CARETAKER_DEPLOYMENT: 'metered' } })
    await test.db.execute(
      `insert into caretaker.runs (job, slot, state, actor, deployment, started_at, finished_at)
       select 'backup', $1::timestamptz + n * interval '1 second', case when n = 3 then 'failed' else 'done' end, '{"type":"system"}', 'metered',
         $1::timestamptz, $1::timestamptz + n * interval '10 seconds' from generate_series(1, 3) n`,
      [at('11:50:00')],
    )
    await metricsJob(ctx, run())
    await metricsJob(ctx, run())
    ctx.clock.advance(60_000)
    const now = ctx.clock.now()
    expect(
      await measure(ctx, { metric: 'caretaker_job_duration_seconds', stat: 'max', by: ['job', 'state'], overSeconds: 900 }, now),
    ).toEqual([
      { labels: { job: 'backup', state: 'done' }, value: 20, samples: 2 },
      { labels: { job: 'backup', state: 'failed' }, value: 30, samples: 1 },
    ])
    for (const metric of ['database_connections', 'database_connections_max', 'database_size_bytes', 'process_resident_memory_bytes'])
      expect([metric, (await measure(ctx, { metric, overSeconds: 60 }, now))[0]?.value ?? 0]).toEqual([metric, expect.any(Number)])
    const share = { metric: 'database_connections', per: { metric: 'database_connections_max' }, overSeconds: 60 }
    expect((await measure(ctx, share, now))[0]?.value).toBeGreaterThan(0)
  })

  it('takes over what log drains count, and looking twice changes nothing', async () => {
    const ctx = metricsContext(test.db)
    await test.db.execute(
      `insert into caretaker.log_counts values ($1::timestamptz, 'vercel', 'http_5xx', 3), ($1::timestamptz, 'vercel', 'http_2xx', 9),
         ($1::timestamptz, 'vercel', 'log_error', 4)`,
      [at('11:58:00')],
    )
    await metricsJob(ctx, run())
    await test.db.execute(`update caretaker.log_counts set count = 6 where kind = 'http_2xx'`)
    await test.db.execute(`update caretaker.log_counts set count = 4 where kind = 'http_5xx'`)
    await metricsJob(ctx, run())
    expect(await measure(ctx, { metric: 'http.error_rate', overSeconds: 300 }, at('12:00:00'))).toEqual([
      { labels: {}, value: 0.4, samples: 10 },
    ])
    expect((await measure(ctx, { metric: 'log_lines_total', where: { level: 'error' }, overSeconds: 300 }, at('12:00:00')))[0]?.value).toBe(
      4,
    )
    await test.db.execute('truncate caretaker.log_counts')
  })

  it('captures health_check where the policy asks for it; a PostHog that is down fails nothing', async () => {
    const state = { key: 'phc_project', events: [] as PosthogEvent[], fails: false }
    doubles.use(...posthogCapture(state))
    const looks = [
      { status: 'up', critical: true, durationMs: 12 },
      { status: 'down', critical: false, durationMs: 240 },
    ]
    const off = metricsContext(test.db, { env: { POSTHOG_API_KEY: state.key } })
    await metricsJob(off, run(), () => Promise.resolve(looks))
    expect(state.events).toEqual([])
    const ctx = metricsContext(test.db, { policy: { metrics: { posthog: true } }, env: { POSTHOG_API_KEY: state.key } })
    await metricsJob(ctx, run(), () => Promise.resolve(looks))
    expect(state.events).toMatchObject([
      { event: 'health_check', properties: { status: 'degraded', response_time: 240, $process_person_profile: false } },
    ])
    expect(Object.keys(state.events[0]?.properties ?? {})).toEqual(expect.arrayContaining(['memory_usage', 'uptime']))
    state.fails = true
    expect(await metricsJob(ctx, run(), () => Promise.resolve(looks))).toMatchObject({ status: 'done', result: { posthog: 'failed' } })
    expect(logLines(ctx).join()).not.toContain(state.key)
  })
})
