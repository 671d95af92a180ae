import { describe, expect, it } from 'vitest'
import { evaluateAlerts, listIncidents, listNotifications } from '../../lib/alerts/index.ts'
import { defineConfig, type PolicyInput } from '../../lib/config/index.ts'
import { useTestDatabase } from '../support/database.ts'
import { alertContext, newWorld, sourcesOf } from './world.ts'

/*
 * While a deployment is replaced, instances of two versions of one policy look at the same environment, now the one and now the other.
 * What only one of them knows of must neither flap nor be lost.
 */

const test = useTestDatabase()

type Alerts = NonNullable<PolicyInput['alerts']>
const channels = { slack: {} }
const errors = { name: 'errors', metric: 'http.error_rate', above: 0.05, severity: 'P1', component: 'api' }

/** Two versions of the policy that look in turns, a minute apart. */
function rollout(old: Alerts, next: Alerts, more: { old?: Partial<PolicyInput>; next?: Partial<PolicyInput> } = {}) {
  const { ctx, minutes } = alertContext(test.db, { channels, ...old }, more.old)
  const newer = { ...ctx, config: defineConfig({ app: { name: 'Shop' }, alerts: { channels, ...next }, ...more.next }) }
  const [oldWorld, newWorldOf] = [newWorld(['database', 'stripe']), newWorld(['database'])]
  const look = async (which: 'old' | 'next') => {
    await evaluateAlerts(which === 'old' ? ctx : newer, sourcesOf(which === 'old' ? oldWorld : newWorldOf))
    minutes(1)
  }
  const inTurns = async (looks: number) => {
    for (let one = 0; one < looks; one++) await look(one % 2 === 0 ? 'old' : 'next')
  }
  const worlds = [oldWorld, newWorldOf]
  const figure = (value: number) => {
    for (const world of worlds) world.figures.set('http.error_rate', [{ labels: {}, value, samples: 500 }])
  }
  const told = async () => (await listNotifications(ctx)).map(({ kind }) => kind).reverse()
  return { ctx, look, inTurns, figure, told, oldWorld, minutes }
}

describe('while two versions of a policy look in turns', () => {
  it('a rule that only one of them has is one incident, from its beginning to its end', async () => {
    const { ctx, inTurns, look, figure, told } = rollout({}, { rules: [errors] })
    figure(0.2)
    await inTurns(20)
    expect(await told()).toEqual(['opened'])
    for (let minute = 0; minute < 5; minute++) await look('next')
    expect(await told()).toEqual(['opened'])
    figure(0)
    for (let minute = 0; minute < 7; minute++) await look('next')
    expect(await told()).toEqual(['opened', 'resolved'])
    expect(await listIncidents(ctx)).toMatchObject([{ number: 1, reopened: 0, state: 'resolved' }])
  })

  it('a rule that must hold for a while is not put off for as long as that takes', async () => {
    const { inTurns, figure, told } = rollout({}, { rules: [{ ...errors, for: '10 minutes' }] })
    figure(0.2)
    await inTurns(16)
    expect(await told()).toEqual(['opened'])
  })

  it('a rule that goes with the old one ends some minutes after it, once', async () => {
    const { ctx, inTurns, look, figure, told } = rollout({ rules: [errors] }, {})
    figure(0.2)
    await inTurns(10)
    expect(await told()).toEqual(['opened'])
    for (let minute = 0; minute < 15; minute++) await look('next')
    expect(await told()).toEqual(['opened', 'resolved'])
    expect(await listIncidents(ctx)).toMatchObject([{ reopened: 0, state: 'resolved' }])
  })

  it('another threshold, severity or component of a rule is told once', async () => {
    const { ctx, inTurns, figure, told } = rollout(
      { rules: [errors] },
      { rules: [{ ...errors, above: 0.15, severity: 'P0', component: 'web' }] },
    )
    figure(0.1)
    await inTurns(12)
    expect(await told()).toEqual(['opened'])
    figure(0.2)
    await inTurns(12)
    // As severe as one of them says, and never less.
    expect((await told()).filter((kind) => kind !== 'raised')).toEqual(['opened'])
    expect((await told()).length).toBeLessThanOrEqual(2)
    expect(await listIncidents(ctx, { state: 'open' })).toMatchObject([{ severity: 'P0' }])
  })

  it('a check that only one of them has is one incident', async () => {
    const { ctx, inTurns, oldWorld, told } = rollout({}, {})
    oldWorld.down.set('stripe', 'refused')
    await inTurns(20)
    expect(await told()).toEqual(['opened'])
    expect(await listIncidents(ctx)).toMatchObject([{ component: 'stripe', reopened: 0 }])
  })

  it('an event of the app that only one of them knows waits for that one', async () => {
    const { look, told, minutes } = rollout({}, { events: { 'order.stuck': { severity: 'P1' } } })
    const emit = () => test.db.execute(`select caretaker.emit('order.stuck', '{}')`)
    await look('next')
    await emit()
    await look('old')
    await look('old')
    expect(await told()).toEqual([])
    await look('next')
    expect(await told()).toEqual(['opened'])
    // Where nobody has known it for an hour it means nothing any more, and stands in nobody's way.
    minutes(90)
    await emit()
    await look('old')
    expect(await test.db.query(`select from caretaker.outbox where topic = 'order.stuck' and delivered_at is null`)).toEqual([])
  })
})
