import { describe, expect, it } from 'vitest'
import { evaluateAlerts, listAlerts } from '../../lib/alerts/index.ts'
import type { Context } from '../../lib/platform/context.ts'
import { emitEvent } from '../../lib/platform/outbox.ts'
import { useTestDatabase } from '../support/database.ts'
import { alertContext, incidentsOf, newWorld, sourcesOf } from './world.ts'

const test = useTestDatabase()

describe('events', () => {
  // The outbox has no environments: what one test emits, its own evaluation takes.
  const emit = (topic: string, payload: Record<string, unknown>) => test.db.transaction((tx) => emitEvent(tx, topic, payload))
  const atDatabaseTime = async (ctx: Context) => {
    const [row] = await test.db.query<{ now: Date }>('select clock_timestamp() as now')
    const away = (row?.now.getTime() ?? 0) - ctx.clock.now().getTime()
    return away / 60_000
  }

  it('fire once, join the incident of the check that looks at the same, and end when the job has ended well', async () => {
    const { ctx, minutes } = alertContext(test.db)
    minutes(await atDatabaseTime(ctx))
    const world = newWorld(['backup'])
    const sources = sourcesOf(world)
    world.down.set('backup', 'backup_failed')
    await emit('job.failed', { job: 'backup', run: 'r1', error: { code: 'object_store_failed', detail: 'The bucket is full.' } })
    await emit('gdpr.erased', { request: 'nobody has to know' })
    minutes(1)
    expect(await evaluateAlerts(ctx, sources)).toMatchObject({ events: 1, firing: 2 })
    expect(await incidentsOf(ctx)).toMatchObject([{ component: 'backup', severity: 'P1' }])
    minutes(1)
    expect(await evaluateAlerts(ctx, sources)).toMatchObject({ events: 0, firing: 2 })
    world.done.set('backup', ctx.clock.now())
    world.down.clear()
    for (let look = 0; look < 7; look++) {
      minutes(1)
      await evaluateAlerts(ctx, sources)
    }
    expect((await incidentsOf(ctx)).map(({ open }) => open)).toEqual([false])
  })

  it('are ended by their opposite, by time, or by nothing', async () => {
    const { ctx, minutes } = alertContext(test.db, { events: { 'order.stuck': { severity: 'P0', for: '2 hours' }, 'job.missed': false } })
    minutes(await atDatabaseTime(ctx))
    const sources = sourcesOf(newWorld([]))
    await emit('webhooks.silent', { source: 'stripe' })
    await emit('webhooks.silent', { source: 'twilio' })
    await emit('job.missed', { job: 'reports' })
    await emit('order.stuck', { order: 17 })
    minutes(1)
    expect((await evaluateAlerts(ctx, sources)).fired.sort()).toEqual(['order.stuck', 'webhooks.silent', 'webhooks.silent'])
    await emit('webhooks.heard', { source: 'stripe' })
    minutes(10)
    expect(await evaluateAlerts(ctx, sources)).toMatchObject({ firing: 2, resolved: ['webhooks.silent'] })
    minutes(120)
    expect(await evaluateAlerts(ctx, sources)).toMatchObject({ firing: 1, resolved: ['order.stuck'] })
    expect(await listAlerts(ctx)).toMatchObject([{ rule: 'webhooks.silent', labels: { source: 'twilio' } }])
  })

  it('of a minute that was missed by what looks every minute page nobody; of a quarter of an hour they do', async () => {
    const { ctx, minutes } = alertContext(test.db)
    minutes(await atDatabaseTime(ctx))
    const sources = sourcesOf(newWorld([]))
    for (const job of ['health', 'metrics']) await emit('job.missed', { job, slots: 1, policy: 'last' })
    minutes(1)
    expect(await evaluateAlerts(ctx, sources)).toMatchObject({ events: 2, firing: 0 })
    await emit('job.missed', { job: 'health', slots: 15, policy: 'last' })
    await emit('job.missed', { job: 'backup', slots: 1, policy: 'last' })
    minutes(1)
    expect(await evaluateAlerts(ctx, sources)).toMatchObject({ events: 2, firing: 2 })
  })

  it('of yesterday are no news', async () => {
    const { ctx, minutes } = alertContext(test.db)
    minutes(await atDatabaseTime(ctx))
    await emit('backup.untrusted', {})
    minutes(25 * 60)
    expect(await evaluateAlerts(ctx, sourcesOf(newWorld([])))).toMatchObject({ events: 1, firing: 0 })
  })

  it('do not wait behind thousands that mean nothing', async () => {
    const { ctx, minutes } = alertContext(test.db)
    minutes(await atDatabaseTime(ctx))
    await test.db.execute(
      `insert into caretaker.outbox (topic, payload, app) select 'order.paid', '{}', true from generate_series(1, 12000)`,
    )
    await emit('job.missed', { job: 'backup' })
    minutes(1)
    expect(await evaluateAlerts(ctx, sourcesOf(newWorld([])))).toMatchObject({ events: 1, fired: ['job.missed'] })
    expect(await test.db.query('select from caretaker.outbox where delivered_at is null')).toEqual([])
  })

  it('of any form keep nothing else from being told', async () => {
    const { ctx, minutes } = alertContext(test.db)
    minutes(await atDatabaseTime(ctx))
    await test.db.execute(
      `select caretaker.emit('job.failed', 'null'), caretaker.emit('webhooks.dead', '[1]'), caretaker.emit('job.missed', '"x"')`,
    )
    await emit('webhooks.subscriber_gone', { subscriber: `${'x'.repeat(99)}\u{1F600}` })
    minutes(1)
    expect(await evaluateAlerts(ctx, sourcesOf(newWorld([])))).toMatchObject({ events: 4, firing: 4 })
  })

  it('are those of production, where it is watched', async () => {
    const production = alertContext(test.db, {}, {}, { CARETAKER_ENVIRONMENT: 'production' })
    const preview = alertContext(test.db)
    const sources = sourcesOf(newWorld([]))
    const ahead = await atDatabaseTime(preview.ctx)
    for (const { minutes } of [production, preview]) minutes(ahead + 1)
    await evaluateAlerts(production.ctx, sources)
    await emit('job.missed', { job: 'backup' })
    expect(await evaluateAlerts(preview.ctx, sources)).toMatchObject({ events: 0, firing: 0 })
    expect(await evaluateAlerts(production.ctx, sources)).toMatchObject({ events: 1, fired: ['job.missed'] })
    // Nobody watches production any more.
    await test.db.execute(`delete from caretaker.alert_evaluations where environment = 'production'`)
    await emit('job.missed', { job: 'reports' })
    expect(await evaluateAlerts(preview.ctx, sources)).toMatchObject({ events: 1, firing: 1 })
  })
})
