import { describe, expect, it } from 'vitest'
import { evaluateAlerts, listAlerts, listSilences, silence, unsilence } from '../../lib/alerts/index.ts'
import { useTestDatabase } from '../support/database.ts'
import { alertContext, incidentsOf, newWorld, sourcesOf, toldIn } from './world.ts'

const test = useTestDatabase()

describe('quiet', () => {
  it('is kept by a silence until it ends; what still fires then is told', async () => {
    const { ctx, minutes } = alertContext(test.db)
    const world = newWorld()
    const sources = sourcesOf(world)
    const quiet = await silence(ctx, { matcher: 'component=str*,severity=P2', forMs: 30 * 60_000, reason: 'Stripe moves its test mode' })
    world.down.set('stripe', 'timeout')
    expect(await evaluateAlerts(ctx, sources)).toMatchObject({ firing: 1, withheld: 1 })
    expect(await listAlerts(ctx)).toMatchObject([{ withheld: 'silenced', announced: false }])
    minutes(29)
    await evaluateAlerts(ctx, sources)
    expect(await incidentsOf(ctx)).toEqual([])
    minutes(2)
    await evaluateAlerts(ctx, sources)
    expect(await incidentsOf(ctx)).toMatchObject([{ component: 'stripe', open: true }])
    await expect(unsilence(ctx, quiet.id)).rejects.toMatchObject({ code: 'conflict' })
  })

  it('ends when the silence is taken back', async () => {
    const { ctx, minutes } = alertContext(test.db)
    const world = newWorld()
    world.down.set('stripe', 'timeout')
    const quiet = await silence(ctx, { matcher: 'stripe', forMs: 3_600_000, reason: 'Looking at it' })
    await evaluateAlerts(ctx, sourcesOf(world))
    expect(await listSilences(ctx)).toMatchObject([{ id: quiet.id, reason: 'Looking at it', endedAt: null }])
    await unsilence(ctx, quiet.id)
    expect(await listSilences(ctx)).toEqual([])
    minutes(1)
    await evaluateAlerts(ctx, sourcesOf(world))
    expect(await incidentsOf(ctx)).toHaveLength(1)
    await expect(unsilence(ctx, 'nothing')).rejects.toMatchObject({ code: 'not_found' })
  })

  it('is kept of an incident that is known already: no reminder, but its end', async () => {
    const { ctx, minutes } = alertContext(test.db, { remindEvery: '1 hour', keepFiringFor: '1 minute' })
    const world = newWorld()
    const sources = sourcesOf(world)
    world.down.set('stripe', 'timeout')
    await evaluateAlerts(ctx, sources)
    await silence(ctx, { matcher: 'rule=check-stripe', forMs: 90 * 60_000, reason: 'They are at it' })
    minutes(70)
    await evaluateAlerts(ctx, sources)
    const heard = async () => (await toldIn(ctx)).filter((line) => !line.startsWith('watching'))
    expect(await heard()).toEqual(['opened stripe'])
    minutes(65)
    await evaluateAlerts(ctx, sources)
    expect(await heard()).toEqual(['opened stripe', 'reminder stripe'])
    await silence(ctx, { matcher: 'stripe', forMs: 90 * 60_000, reason: 'They are still at it' })
    world.down.clear()
    for (let look = 0; look < 2; look++) {
      minutes(1)
      await evaluateAlerts(ctx, sources)
    }
    expect(await heard()).toEqual(['opened stripe', 'reminder stripe', 'resolved stripe'])
  })

  it('puts off an escalation until it ends', async () => {
    const { ctx, minutes } = alertContext(
      test.db,
      { channels: { slack: {}, pagerduty: {} } },
      { incidents: { severities: { high: { notify: ['slack'], escalateAfter: '30 minutes', escalateTo: ['pagerduty'] } } } },
    )
    const world = newWorld()
    const sources = sourcesOf(world)
    world.down.set('stripe', 'timeout')
    await evaluateAlerts(ctx, sources)
    await silence(ctx, { matcher: 'stripe', forMs: 60 * 60_000, reason: 'Their migration' })
    const heard = async () => (await toldIn(ctx)).filter((line) => !line.startsWith('watching'))
    minutes(40)
    await evaluateAlerts(ctx, sources)
    expect(await heard()).toEqual(['opened stripe'])
    minutes(21)
    await evaluateAlerts(ctx, sources)
    expect(await heard()).toEqual(['opened stripe', 'escalation stripe'])
  })

  it('is refused with words for whoever asked for it in the wrong way', async () => {
    const { ctx } = alertContext(test.db)
    const ask = (input: Partial<Parameters<typeof silence>[1]>) =>
      silence(ctx, { matcher: 'stripe', forMs: 60_000, reason: 'why', ...input })
    await expect(ask({ matcher: 'a=b=c' })).rejects.toMatchObject({ code: 'invalid_input', detail: expect.stringContaining('"a=b=c"') })
    await expect(ask({ reason: '  ' })).rejects.toMatchObject({
      code: 'invalid_input',
      detail: expect.stringContaining('reason: found nothing'),
    })
    await expect(ask({ forMs: 5 })).rejects.toMatchObject({
      code: 'invalid_input',
      detail: expect.stringContaining('for: found 0 seconds'),
    })
  })

  it('is kept while the component, or what it stands on, is being worked on', async () => {
    const { ctx, minutes } = alertContext(test.db)
    const world = newWorld()
    const sources = sourcesOf(world)
    world.maintenance = [{ title: 'Move of Supabase', components: ['supabase'] }]
    world.down.set('supabase-auth', 'timeout')
    world.down.set('stripe', 'timeout')
    await evaluateAlerts(ctx, sources)
    expect(await incidentsOf(ctx)).toMatchObject([{ component: 'stripe' }])
    world.maintenance = []
    minutes(1)
    await evaluateAlerts(ctx, sources)
    expect(await incidentsOf(ctx)).toMatchObject([{ component: 'stripe' }, { component: 'supabase-auth' }])
  })
})
