import { describe, expect, it } from 'vitest'
import { recordLooks } from '../../lib/health/history/record.ts'
import { rollUpHealth } from '../../lib/health/history/roll-up.ts'
import type { Look } from '../../lib/health/history/status.ts'
import { healthChanges, healthJob, healthNow, noteDatabaseLost, recordDatabaseOutage, statusHistory } from '../../lib/health/index.ts'
import { CaretakerError } from '../../lib/platform/errors.ts'
import type { JobRun } from '../../lib/platform/job.ts'
import { runTick } from '../../lib/routes/cron.ts'
import { useTestDatabase } from '../support/database.ts'
import { healthContext } from './support.ts'

const test = useTestDatabase()
const run = {} as JobRun
const minute = 60_000

/** Two checks whose answers the test gives: a status for each look, the last one again and again. */
function watched(answers: Record<string, number[]>, more: object = {}) {
  const checks = Object.fromEntries(Object.keys(answers).map((name) => [name, { kind: 'url', url: `https://${name}.test/` }]))
  const asked: string[] = []
  const fetch = (input: unknown) => {
    const name = new URL(String(input)).hostname.split('.')[0] as string
    asked.push(name)
    const left = answers[name] as number[]
    return Promise.resolve(new Response('x', { status: (left.length > 1 ? left.shift() : left[0]) as number }))
  }
  const ctx = healthContext(test.db, {
    health: { checks, confirmAfterMs: 0, ...more },
    overrides: { fetch: fetch as typeof globalThis.fetch },
  })
  return { ctx, asked }
}

const look = (check: string, status: Look['status'], cause: Look['cause'] = null): Look => ({ check, status, cause, durationMs: 5 })

describe('the job', () => {
  it('looks a second time at what fails, and counts what it found then', async () => {
    const { ctx, asked } = watched({ lost: [500, 200], down: [500], fine: [200] })
    await healthJob(ctx, run)
    expect(asked.toSorted()).toEqual(['down', 'down', 'fine', 'lost', 'lost'])
    expect(await healthNow(ctx)).toMatchObject([
      { check: 'lost', status: 'up' },
      { check: 'down', status: 'down', cause: 'http_5xx' },
      { check: 'fine', status: 'up' },
    ])
  })

  it('looks a second time at what recovers, and not at what stays as it is', async () => {
    const { ctx, asked } = watched({ lucky: [500, 500, 200, 500], back: [500, 500, 200, 200], still: [500] })
    await healthJob(ctx, run)
    asked.length = 0
    ctx.clock.advance(minute)
    await healthJob(ctx, run)
    expect(asked.toSorted()).toEqual(['back', 'back', 'lucky', 'lucky', 'still'])
    expect((await healthNow(ctx)).map(({ status }) => status)).toEqual(['down', 'up', 'down'])
  })

  it('says of what is not configured that nothing is known, and takes the whole down with what is critical alone', async () => {
    const { ctx } = watched({ page: [500] })
    const policy = { ...ctx.config, health: { checks: { ...ctx.config.health?.checks, stripe: { critical: true } }, confirmAfterMs: 0 } }
    await healthJob({ ...ctx, config: policy }, run)
    expect(await healthNow({ ...ctx, config: policy })).toMatchObject([
      { check: 'page', status: 'down' },
      { check: 'stripe', status: 'unknown', cause: 'not_configured', durationMs: null },
    ])
    const whole = () =>
      test.db.query(`select status from caretaker.health_states where check_name = '' and environment = $1`, [
        ctx.env.CARETAKER_ENVIRONMENT,
      ])
    expect(await whole()).toEqual([{ status: 'up' }])
    ctx.clock.advance(minute)
    const critical = { ...ctx.config.health?.checks?.page, critical: true }
    await healthJob({ ...ctx, config: { ...ctx.config, health: { checks: { page: critical }, confirmAfterMs: 0 } } }, run)
    expect(await whole()).toEqual([{ status: 'down' }])
  })

  it('takes a failure that was announced for maintenance, also of what depends on it', async () => {
    const { ctx } = watched(
      { a: [500], b: [500], c: [500], d: [200] },
      { maintenance: [{ name: 'upgrade', from: '11:00', to: '13:00', components: ['a'] }] },
    )
    const checks = { ...ctx.config.health?.checks }
    checks.b = { ...checks.b, dependsOn: ['a'] }
    const config = { ...ctx.config, health: { ...ctx.config.health, checks } }
    await healthJob({ ...ctx, config }, run)
    expect((await healthNow({ ...ctx, config })).map(({ status }) => status)).toEqual(['maintenance', 'maintenance', 'down', 'up'])
    ctx.clock.advance(61 * minute)
    await healthJob({ ...ctx, config }, run)
    expect((await healthNow({ ...ctx, config })).map(({ status }) => status)).toEqual(['down', 'down', 'down', 'up'])
  })
})

describe('what is stored', () => {
  it('is a change only where something changed, with since when it stands', async () => {
    const ctx = healthContext(test.db, { health: { checks: { a: { kind: 'dns' } } } })
    const from = ctx.clock.now()
    for (const status of ['up', 'up', 'down', 'down', 'up'] as const) {
      await recordLooks(ctx, [look('a', status)])
      ctx.clock.advance(minute)
    }
    const changes = await healthChanges(ctx, { from, to: ctx.clock.now() })
    expect(changes.map(({ at, status }) => [(at.getTime() - from.getTime()) / minute, status])).toEqual([
      [0, 'up'],
      [2, 'down'],
      [4, 'up'],
    ])
    expect(await healthNow(ctx)).toMatchObject([{ status: 'up', since: new Date(from.getTime() + 4 * minute) }])
  })

  it('is unknown where nobody looked, from when the last look says nothing any more', async () => {
    const ctx = healthContext(test.db, { health: { checks: { a: { kind: 'dns' }, never: { kind: 'dns' } } } })
    const from = ctx.clock.now()
    await recordLooks(ctx, [look('a', 'up')])
    // What is to come is not unknown yet.
    expect(await healthChanges(ctx, { from, to: new Date(from.getTime() + 10 * minute) })).toHaveLength(1)
    ctx.clock.advance(10 * minute)
    expect(await healthNow(ctx)).toMatchObject([
      { check: 'a', status: 'unknown', since: new Date(from.getTime() + 3 * minute), at: from },
      { check: 'never', status: 'unknown', since: ctx.clock.now() },
    ])
    const unknown = { check: 'a', at: new Date(from.getTime() + 3 * minute), status: 'unknown', cause: null }
    expect(await healthChanges(ctx, { from, to: ctx.clock.now() })).toEqual([expect.objectContaining({ status: 'up' }), unknown])
    await recordLooks(ctx, [look('a', 'up')])
    expect(await healthChanges(ctx, { from: ctx.clock.now(), to: new Date(ctx.clock.now().getTime() + 1) })).toEqual([
      unknown,
      { check: 'a', at: ctx.clock.now(), status: 'up', cause: null },
    ])
  })

  it('is written once, however many write it at once', async () => {
    const ctx = healthContext(test.db, { health: { checks: { a: { kind: 'dns' } } } })
    const changes = await Promise.all(Array.from({ length: 6 }, () => recordLooks(ctx, [look('a', 'down', 'refused')])))
    expect(changes.flat()).toHaveLength(1)
  })

  it("is not another environment's", async () => {
    const [one, other] = [0, 1].map(() => healthContext(test.db, { health: { checks: { a: { kind: 'dns' } } } }))
    await recordLooks(one as NonNullable<typeof one>, [look('a', 'up')])
    expect(await healthNow(other as NonNullable<typeof other>)).toMatchObject([{ status: 'unknown' }])
  })

  it('goes on after a clock that ran ahead was set back', async () => {
    const ctx = healthContext(test.db, { health: { checks: { a: { kind: 'dns' } } } })
    const from = ctx.clock.now()
    ctx.clock.advance(3_600_000)
    await recordLooks(ctx, [look('a', 'up')])
    ctx.clock.advance(-3_540_000)
    await recordLooks(ctx, [look('a', 'down')])
    expect(await healthNow(ctx)).toMatchObject([{ status: 'down', since: new Date(from.getTime() + minute) }])
    expect(await healthChanges(ctx, { from, to: new Date(from.getTime() + 2 * minute) })).toMatchObject([{ status: 'down' }])
  })

  it('ends, as unknown, for a check that left the policy', async () => {
    const ctx = healthContext(test.db, { health: { checks: { a: { kind: 'dns' } } } })
    await recordLooks(ctx, [look('gone', 'up'), look('a', 'up')])
    ctx.clock.advance(25 * 3_600_000)
    await recordLooks(ctx, [look('a', 'up')])
    const changes = await healthChanges(ctx, { from: ctx.clock.now(), to: new Date(ctx.clock.now().getTime() + 1) })
    expect(changes.filter(({ check }) => check === 'gone')).toMatchObject([{ status: 'unknown' }])
    expect(
      await test.db.query('select from caretaker.health_states where check_name = $1 and environment = $2', [
        'gone',
        ctx.env.CARETAKER_ENVIRONMENT,
      ]),
    ).toEqual([])
  })
})

describe('an outage of the database itself', () => {
  const health = { checks: { db: { kind: 'database' }, page: { kind: 'dns' } } }
  const times = async (ctx: ReturnType<typeof healthContext>, from: Date) =>
    (await healthChanges(ctx, { from, to: ctx.clock.now() }))
      .filter(({ check }) => check === 'db')
      .map(({ at, status }) => [(at.getTime() - from.getTime()) / minute, status])

  it('is in the history as long as somebody saw it, when it is over', async () => {
    const ctx = healthContext(test.db, { health })
    const from = ctx.clock.now()
    await recordLooks(ctx, [look('db', 'up'), look('page', 'up'), look('', 'up')])
    for (let n = 0; n < 20; n++) {
      ctx.clock.advance(minute)
      noteDatabaseLost(ctx)
    }
    ctx.clock.advance(minute)
    await recordDatabaseOutage(ctx)
    await recordDatabaseOutage(ctx)
    await recordLooks(ctx, [look('db', 'up'), look('page', 'up'), look('', 'up')])
    ctx.clock.advance(minute)
    expect(await times(ctx, from)).toEqual([
      [0, 'up'],
      [1, 'down'],
      // Until somebody looks.
      [20, 'unknown'],
      [21, 'up'],
    ])
    await rollUpHealth(ctx)
    expect((await statusHistory(ctx, { days: 1 })).whole.days).toMatchObject([{ up: 2 * 60, down: 19 * 60, unknown: 60 }])
  })

  it('is not, where somebody else has looked since', async () => {
    const ctx = healthContext(test.db, { health })
    const from = ctx.clock.now()
    noteDatabaseLost(ctx)
    ctx.clock.advance(minute)
    await recordLooks(ctx, [look('db', 'up'), look('', 'up')])
    ctx.clock.advance(minute)
    await recordDatabaseOutage(ctx)
    expect(await times(ctx, from)).toEqual([[1, 'up']])
  })

  it('is noted by the ticks that do not reach it, and written by the first that does', async () => {
    const ctx = healthContext(test.db, { health, policy: { schedules: { health: false } } })
    const from = ctx.clock.now()
    await recordLooks(ctx, [look('db', 'up'), look('', 'up')])
    let gone = true
    const db = Object.assign(Object.create(test.db) as typeof test.db, {
      probe: (...given: Parameters<typeof test.db.probe>) =>
        gone ? Promise.reject(new CaretakerError('database_unavailable', 'Gone.')) : test.db.probe(...given),
    })
    const tick = () => runTick({ ...ctx, db }, [], () => Promise.resolve())
    for (let n = 0; n < 5; n++) {
      ctx.clock.advance(minute)
      await expect(tick()).rejects.toMatchObject({ code: 'database_unavailable' })
    }
    gone = false
    ctx.clock.advance(minute)
    await tick()
    expect(await times(ctx, from)).toEqual([
      [0, 'up'],
      [1, 'down'],
      [5, 'unknown'],
    ])
    // What is over pages nobody.
    expect(await healthNow(ctx)).toMatchObject([{ check: 'db', status: 'unknown' }, { check: 'page' }])
  })
})
