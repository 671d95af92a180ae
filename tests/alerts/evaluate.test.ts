import { describe, expect, it } from 'vitest'
import { evaluateAlerts, listAlerts, listNotifications } from '../../lib/alerts/index.ts'
import type { Database, Transaction } from '../../lib/platform/db.ts'
import { logLines } from '../support/context.ts'
import { useTestDatabase } from '../support/database.ts'
import { alertContext, incidentsOf, newWorld, sourcesOf, toldIn } from './world.ts'

const test = useTestDatabase()

describe('checks', () => {
  it('open one incident at the next look, tell of it once, and end it when it is over for its time', async () => {
    const { ctx, minutes } = alertContext(test.db)
    const world = newWorld()
    const sources = sourcesOf(world)
    expect(await evaluateAlerts(ctx, sources)).toMatchObject({ evaluated: true, firing: 0, fired: [] })
    expect(await incidentsOf(ctx)).toEqual([])

    minutes(1)
    world.down.set('stripe', 'http_5xx')
    expect(await evaluateAlerts(ctx, sources)).toMatchObject({ firing: 1, fired: ['check-stripe'] })
    for (let look = 0; look < 5; look++) {
      minutes(1)
      await evaluateAlerts(ctx, sources)
    }
    expect(await incidentsOf(ctx)).toEqual([
      { component: 'stripe', severity: 'P2', title: 'stripe: is in trouble (http_5xx)', affected: [], open: true },
    ])
    expect(await toldIn(ctx)).toEqual(['opened stripe'])

    world.down.clear()
    for (let look = 0; look < 5; look++) {
      minutes(1)
      expect((await evaluateAlerts(ctx, sources)).resolved).toEqual([])
    }
    minutes(1)
    expect((await evaluateAlerts(ctx, sources)).resolved).toEqual(['check-stripe'])
    expect((await incidentsOf(ctx)).map(({ open }) => open)).toEqual([false])
    expect(await toldIn(ctx)).toEqual(['opened stripe', 'resolved stripe'])
    expect(await listAlerts(ctx)).toEqual([])
    expect(await listAlerts(ctx, { resolvedHours: 1 })).toMatchObject([{ rule: 'check-stripe', state: 'ok', withheld: null }])
  })

  it('open one incident for a cause and what suffers from it, and one for what stays when the cause is gone', async () => {
    const { ctx, minutes } = alertContext(test.db, { keepFiringFor: '1 minute' })
    const world = newWorld()
    const sources = sourcesOf(world)
    for (const check of ['database', 'jobs', 'backup']) world.down.set(check, 'refused')
    expect(await evaluateAlerts(ctx, sources)).toMatchObject({ firing: 3, withheld: 2 })
    expect(await incidentsOf(ctx)).toMatchObject([{ component: 'database', severity: 'P0', affected: ['backup', 'jobs'], open: true }])
    expect(await listAlerts(ctx)).toMatchObject([
      { rule: 'check-backup', withheld: 'inhibited', root: 'database' },
      { rule: 'check-database', withheld: null, announced: true },
      { rule: 'check-jobs', withheld: 'inhibited', root: 'database' },
    ])

    world.down.delete('database')
    world.down.delete('jobs')
    minutes(1)
    await evaluateAlerts(ctx, sources)
    minutes(1)
    await evaluateAlerts(ctx, sources)
    expect(await incidentsOf(ctx)).toMatchObject([
      { component: 'database', open: false },
      { component: 'backup', affected: [], open: true },
    ])
    expect((await toldIn(ctx)).filter((line) => line !== 'escalation database')).toEqual([
      'opened database',
      'opened backup',
      'resolved database',
    ])
  })

  it('tell of the others when the incident of one cannot be stored, and of that one as soon as it can', async () => {
    const { ctx, minutes } = alertContext(test.db, { keepFiringFor: '1 minute' })
    const world = newWorld()
    const sources = sourcesOf(world)
    await test.db.execute(`create function refuse_stripe() returns trigger language plpgsql as $$ begin raise 'no incident of stripe'; end $$;
      create trigger refuse_stripe before insert or update on caretaker.incidents for each row when (new.component = 'stripe') execute function refuse_stripe()`)
    world.down.set('stripe', 'timeout')
    world.down.set('supabase', 'timeout')
    for (let look = 0; look < 2; look++) {
      await evaluateAlerts(ctx, sources)
      expect((await incidentsOf(ctx)).map(({ component }) => component)).toEqual(['supabase'])
      expect(await toldIn(ctx)).toEqual(['opened supabase'])
      minutes(1)
    }
    await test.db.execute('alter table caretaker.incidents disable trigger refuse_stripe')
    await evaluateAlerts(ctx, sources)
    expect(await toldIn(ctx)).toEqual(['opened supabase', 'opened stripe'])

    // Its end is not lost either.
    await test.db.execute('alter table caretaker.incidents enable trigger refuse_stripe')
    world.down.clear()
    for (let look = 0; look < 3; look++) {
      minutes(1)
      await evaluateAlerts(ctx, sources)
    }
    expect(await toldIn(ctx)).toEqual(['opened supabase', 'opened stripe', 'resolved supabase'])
    await test.db.execute('drop trigger refuse_stripe on caretaker.incidents')
    minutes(1)
    await evaluateAlerts(ctx, sources)
    expect(await toldIn(ctx)).toEqual(['opened supabase', 'opened stripe', 'resolved supabase', 'resolved stripe'])
    expect(logLines(ctx).join('')).toContain('could not be brought up to date')
  })

  it('raise their incidents with the next look, where they could not with this one', async () => {
    const { ctx, minutes } = alertContext(test.db)
    const world = newWorld()
    world.down.set('stripe', 'rate_limited')
    await evaluateAlerts(ctx, sourcesOf(world))
    await test.db.execute(`create function refuse_raise() returns trigger language plpgsql as $$ begin raise 'no raise'; end $$;
      create trigger refuse_raise before update on caretaker.incidents for each row when (new.severity <> old.severity) execute function refuse_raise()`)
    world.down.set('stripe', 'timeout')
    minutes(1)
    await evaluateAlerts(ctx, sourcesOf(world))
    expect(await incidentsOf(ctx)).toMatchObject([{ severity: 'P3' }])
    await test.db.execute('drop trigger refuse_raise on caretaker.incidents')
    minutes(1)
    await evaluateAlerts(ctx, sourcesOf(world))
    expect(await incidentsOf(ctx)).toMatchObject([{ severity: 'P2' }])
    expect(await toldIn(ctx)).toEqual(['opened stripe', 'raised stripe'])
    expect(logLines(ctx).join('')).toContain('could not be brought up to date')
  })

  it('that fire together for one component are told to whomever one of them names', async () => {
    const of = { above: 0.1, severity: 'P1', component: 'api' }
    const { ctx } = alertContext(
      test.db,
      {
        channels: { slack: {}, pagerduty: {}, opsgenie: {} },
        rules: [
          { ...of, name: 'errors', metric: 'http.error_rate', notify: ['pagerduty'] },
          { ...of, name: 'slow', metric: 'http.p95' },
        ],
      },
      { incidents: { severities: { P1: { notify: ['slack'] }, P2: {} } } },
    )
    const world = newWorld()
    for (const metric of ['http.error_rate', 'http.p95']) world.figures.set(metric, [{ labels: {}, value: 9, samples: 9 }])
    await evaluateAlerts(ctx, sourcesOf(world))
    expect((await listNotifications(ctx)).map(({ kind, channel }) => `${kind} on ${channel}`).sort()).toEqual([
      'opened on pagerduty',
      'opened on slack',
    ])
  })

  it('take as many statements for two hundred label sets as for two, when they fire and when they are over', async () => {
    const statements = async (count: number) => {
      const { ctx, minutes } = alertContext(test.db, {
        rules: [{ name: 'storage', metric: 'storage_used_ratio', by: ['bucket'], above: 0.8, severity: 'P2' }],
      })
      let sent = 0
      const counted = (tx: Transaction): Transaction => ({
        kind: tx.kind,
        query(sql, params) {
          sent++
          return tx.query(sql, params)
        },
        execute(sql, params) {
          sent++
          return tx.execute(sql, params)
        },
      })
      const db: Database = { ...test.db, transaction: (work, options) => test.db.transaction((tx) => work(counted(tx)), options) }
      const world = newWorld()
      for (const value of [0.9, 0.1]) {
        const figures = Array.from({ length: count }, (_, index) => ({ labels: { bucket: `b${index}` }, value, samples: 9 }))
        world.figures.set('storage_used_ratio', figures)
        for (let look = 0; look < 6; look++) {
          await evaluateAlerts({ ...ctx, db }, sourcesOf(world))
          minutes(1)
        }
      }
      expect(await incidentsOf(ctx)).toMatchObject([{ component: 'storage', open: false }])
      return sent
    }
    expect(await statements(200)).toBe(await statements(2))
  })

  it('wait for the verdict on what they stand on', async () => {
    const { ctx, minutes } = alertContext(test.db, { checks: { database: { for: '2 minutes' } } })
    const world = newWorld()
    const sources = sourcesOf(world)
    for (const check of ['database', 'jobs']) world.down.set(check, 'timeout')
    expect(await evaluateAlerts(ctx, sources)).toMatchObject({ firing: 1, pending: 1, withheld: 1 })
    expect(await incidentsOf(ctx)).toEqual([])
    minutes(1)
    world.down.delete('database')
    await evaluateAlerts(ctx, sources)
    expect(await incidentsOf(ctx)).toMatchObject([{ component: 'jobs', open: true }])
  })

  it('do not wait for a verdict that nobody can give', async () => {
    const { ctx, minutes } = alertContext(test.db, { checks: { database: { for: '2 minutes' } } })
    const world = newWorld()
    const sources = sourcesOf(world)
    for (const check of ['database', 'jobs']) world.down.set(check, 'timeout')
    await evaluateAlerts(ctx, sources)
    world.unknown.add('database')
    minutes(1)
    await evaluateAlerts(ctx, sources)
    expect(await incidentsOf(ctx)).toMatchObject([{ component: 'jobs', open: true }])
  })

  it('that nobody can tell of neither fire nor clear, and keep the others from nothing', async () => {
    const { ctx, minutes } = alertContext(test.db, {
      keepFiringFor: '1 minute',
      rules: [{ name: 'slow', metric: 'http.p95', above: 5, severity: 'P1' }],
    })
    const world = newWorld()
    const sources = sourcesOf(world)
    world.down.set('stripe', 'timeout')
    await evaluateAlerts(ctx, sources)
    world.blind = true
    world.figures.set('http.p95', [{ labels: {}, value: 9, samples: 50 }])
    minutes(10)
    expect((await evaluateAlerts(ctx, sources)).fired).toEqual(['slow'])
    world.figures.set('http.p95', new Error('no such table'))
    minutes(10)
    expect(await evaluateAlerts(ctx, sources)).toMatchObject({ firing: 2, pending: 1, resolved: [] })
    world.blind = false
    world.unknown.add('stripe')
    minutes(10)
    expect(await evaluateAlerts(ctx, sources)).toMatchObject({ firing: 2, resolved: [] })
    // Out of the report it is soon nobody's concern any more: another version of the policy may have it.
    world.checks = world.checks.filter((check) => check !== 'stripe')
    minutes(9)
    expect((await evaluateAlerts(ctx, sources)).resolved).toEqual([])
    minutes(1)
    expect((await evaluateAlerts(ctx, sources)).resolved).toEqual(['check-stripe'])
  })

  it('raise the incident when what is wrong gets worse', async () => {
    const { ctx, minutes } = alertContext(test.db)
    const world = newWorld(['certificate'])
    const sources = sourcesOf(world)
    world.down.set('certificate', 'certificate_expiring')
    await evaluateAlerts(ctx, sources)
    minutes(60)
    world.down.set('certificate', 'certificate_urgent')
    await evaluateAlerts(ctx, sources)
    expect(await incidentsOf(ctx)).toMatchObject([{ severity: 'P1', open: true }])
    expect((await toldIn(ctx)).filter((line) => !line.startsWith('watching'))).toEqual(['opened certificate', 'raised certificate'])
  })
})

describe('rules', () => {
  it('fire for each label set by itself, over their threshold and time, and clear below what they must come back to', async () => {
    const { ctx, minutes } = alertContext(test.db, {
      keepFiringFor: '1 minute',
      rules: [
        {
          name: 'storage',
          description: 'Storage in use',
          metric: 'storage_used_ratio',
          by: ['bucket'],
          above: 0.8,
          recover: 0.7,
          for: '2 minutes',
          severity: 'P2',
          component: 'storage',
          runbook: 'https://runbooks.shop.test/storage',
        },
      ],
    })
    const world = newWorld([])
    const sources = sourcesOf(world)
    const say = (notes: number, media: number | null) =>
      world.figures.set('storage_used_ratio', [
        { labels: { bucket: 'notes' }, value: notes, samples: 5 },
        { labels: { bucket: 'media' }, value: media, samples: 5 },
      ])
    say(0.9, 0.5)
    expect(await evaluateAlerts(ctx, sources)).toMatchObject({ firing: 0, pending: 1 })
    for (let look = 0; look < 2; look++) {
      minutes(1)
      await evaluateAlerts(ctx, sources)
    }
    expect(await listAlerts(ctx)).toMatchObject([
      {
        rule: 'storage',
        labels: { bucket: 'notes' },
        state: 'firing',
        value: 0.9,
        summary: 'Storage in use (bucket=notes): 0.9, above 0.8 over 5 minutes',
      },
    ])
    expect((await listNotifications(ctx))[0]?.payload).toMatchObject({ runbook: 'https://runbooks.shop.test/storage' })
    // Below the threshold and above what it must come back to.
    say(0.75, null)
    for (let look = 0; look < 4; look++) {
      minutes(1)
      expect(await evaluateAlerts(ctx, sources)).toMatchObject({ firing: 1, resolved: [] })
    }
    say(0.6, 0.5)
    minutes(1)
    await evaluateAlerts(ctx, sources)
    minutes(1)
    expect(await evaluateAlerts(ctx, sources)).toMatchObject({ firing: 0, resolved: ['storage'] })
  })

  it('of a label set that is gone end after three days, and of one that comes back never', async () => {
    const { ctx, minutes } = alertContext(test.db, {
      rules: [{ name: 'failures', metric: 'f', by: ['workflow'], above: 1, severity: 'P2' }],
    })
    const world = newWorld([])
    const sources = sourcesOf(world)
    const say = (...figures: [string, number | null][]) =>
      world.figures.set(
        'f',
        figures.map(([workflow, value]) => ({ labels: { workflow }, value, samples: 1 })),
      )
    say(['deleted', 3], ['silent', 3], ['nightly', 3])
    expect(await evaluateAlerts(ctx, sources)).toMatchObject({ firing: 3 })
    for (let day = 0; day < 2; day++) {
      // The figure is null at first, later there is none: both say nothing.
      say(['silent', null])
      minutes(12 * 60)
      expect(await evaluateAlerts(ctx, sources)).toMatchObject({ firing: 3 })
      minutes(23 * 60)
      await evaluateAlerts(ctx, sources)
      say(['nightly', 3])
      minutes(60)
      expect(await evaluateAlerts(ctx, sources)).toMatchObject({ firing: 3, resolved: [] })
    }
    minutes(23 * 60)
    world.figures.set('f', new Error('no such table'))
    expect(await evaluateAlerts(ctx, sources)).toMatchObject({ firing: 3, resolved: [] })
    world.figures.set('f', [])
    expect(await evaluateAlerts(ctx, sources)).toMatchObject({ resolved: ['failures', 'failures'] })
    minutes(1)
    expect(await evaluateAlerts(ctx, sources)).toMatchObject({ firing: 1, resolved: [] })
    expect(await listAlerts(ctx)).toMatchObject([{ labels: { workflow: 'nightly' } }])
  })

  it('that cannot be looked at are told of after a while', async () => {
    const { ctx, minutes } = alertContext(test.db, { rules: [{ name: 'slow', metric: 'http.p95', above: 5, severity: 'P1' }] })
    const world = newWorld([])
    const sources = sourcesOf(world)
    world.figures.set('http.p95', new Error('no such table'))
    for (let look = 0; look < 15; look++) {
      expect(await evaluateAlerts(ctx, sources)).toMatchObject({ firing: 0, pending: 1 })
      minutes(1)
    }
    expect(await evaluateAlerts(ctx, sources)).toMatchObject({ fired: ['rule-failing'] })
    expect(await incidentsOf(ctx)).toMatchObject([{ component: 'alerts', title: 'The rule "slow" cannot be evaluated', open: true }])
    world.figures.set('http.p95', [])
    minutes(1)
    expect(await evaluateAlerts(ctx, sources)).toMatchObject({ resolved: ['rule-failing'], firing: 0 })
  })

  it('that leave the policy take their alerts with them', async () => {
    const { ctx, minutes } = alertContext(test.db, { rules: [{ name: 'slow', metric: 'http.p95', above: 5, severity: 'P1' }] })
    const world = newWorld([])
    world.figures.set('http.p95', [{ labels: {}, value: 9, samples: 50 }])
    await evaluateAlerts(ctx, sourcesOf(world))
    const without = { ...ctx, config: { ...ctx.config, alerts: {} } }
    minutes(10)
    expect(await evaluateAlerts(without, sourcesOf(world))).toMatchObject({ firing: 0, resolved: ['slow'] })
    expect((await incidentsOf(ctx)).map(({ open }) => open)).toEqual([false])
  })

  it('of another deployment on the same database are left alone', async () => {
    const { ctx, minutes } = alertContext(test.db, { rules: [{ name: 'slow', metric: 'http.p95', above: 5, severity: 'P1' }] })
    const world = newWorld([])
    world.figures.set('http.p95', [{ labels: {}, value: 9, samples: 50 }])
    await evaluateAlerts(ctx, sourcesOf(world))
    const other = { ...ctx, config: { ...ctx.config, alerts: {} }, env: { ...ctx.env, CARETAKER_DEPLOYMENT: 'another' } }
    minutes(1)
    expect(await evaluateAlerts(other, sourcesOf(world))).toMatchObject({ evaluated: true, resolved: [] })
    minutes(1)
    expect(await evaluateAlerts(ctx, sourcesOf(world))).toMatchObject({ firing: 1, fired: [] })
    expect((await incidentsOf(ctx)).map(({ open }) => open)).toEqual([true])
  })

  it('open nothing while a component fails that explains them', async () => {
    const { ctx } = alertContext(test.db, {
      rules: [{ name: 'errors', metric: 'http.error_rate', above: 0.05, severity: 'P0', dependsOn: ['backup'] }],
    })
    const world = newWorld()
    world.figures.set('http.error_rate', [{ labels: {}, value: 0.4, samples: 50 }])
    world.down.set('database', 'refused')
    await evaluateAlerts(ctx, sourcesOf(world))
    expect(await incidentsOf(ctx)).toMatchObject([{ component: 'database', affected: ['errors'] }])
  })
})

describe('a channel', () => {
  it('that takes nothing is told of on the others, and so is that it does again', async () => {
    const { ctx, minutes } = alertContext(test.db, { channels: { slack: {}, pagerduty: {} } })
    const sources = sourcesOf(newWorld([]))
    const environment = ctx.env.CARETAKER_ENVIRONMENT
    await test.db.execute(
      `insert into caretaker.alert_channels (environment, name, failures, failing_since) values ($1, 'slack', 4, $2::timestamptz)`,
      [environment, ctx.clock.now()],
    )
    minutes(9)
    expect(await evaluateAlerts(ctx, sources)).toMatchObject({ firing: 0 })
    minutes(1)
    expect(await evaluateAlerts(ctx, sources)).toMatchObject({ fired: ['channel-failing'] })
    await test.db.execute('update caretaker.alert_channels set failures = 0, failing_since = null where environment = $1', [environment])
    minutes(1)
    expect(await evaluateAlerts(ctx, sources)).toMatchObject({ resolved: ['channel-failing'] })
    const heard = (await listNotifications(ctx)).filter(({ incident }) => incident !== null).reverse()
    expect(heard.map(({ channel, kind, payload }) => `${channel} ${kind} ${payload.title}`)).toEqual([
      'pagerduty opened The channel "slack" takes no messages',
      'pagerduty resolved The channel "slack" takes no messages',
    ])
  })
})

describe('the evaluation itself', () => {
  it('is done once when two come at once', async () => {
    const { ctx } = alertContext(test.db)
    const world = newWorld()
    world.down.set('stripe', 'timeout')
    const entered = Promise.withResolvers<void>()
    const held = Promise.withResolvers<void>()
    const sources = sourcesOf(world)
    const first = evaluateAlerts(ctx, {
      ...sources,
      async health(one) {
        entered.resolve()
        await held.promise
        return sources.health(one)
      },
    })
    await entered.promise
    expect(await evaluateAlerts(ctx, sources)).toMatchObject({ evaluated: false, fired: [] })
    held.resolve()
    expect((await first).evaluated).toBe(true)
    expect(await incidentsOf(ctx)).toHaveLength(1)
    expect(await toldIn(ctx)).toEqual(['opened stripe'])
  })

  it('says that nobody watched for a while', async () => {
    const { ctx, minutes } = alertContext(test.db, { channels: { slack: {}, pagerduty: {} } })
    const sources = sourcesOf(newWorld([]))
    await evaluateAlerts(ctx, sources)
    minutes(1)
    await evaluateAlerts(ctx, sources)
    expect(await listNotifications(ctx)).toEqual([])
    minutes(5)
    await evaluateAlerts(ctx, sources)
    expect((await listNotifications(ctx)).map(({ channel, kind }) => `${channel} ${kind}`)).toEqual(['pagerduty watching'])
    minutes(30)
    await evaluateAlerts(ctx, sources)
    expect(await listNotifications(ctx)).toMatchObject([
      { channel: 'pagerduty' },
      { channel: 'slack', incident: null, payload: { since: '2026-11-21T12:06:00.000Z', until: '2026-11-21T12:36:00.000Z' } },
      { channel: 'pagerduty' },
    ])
  })
})
