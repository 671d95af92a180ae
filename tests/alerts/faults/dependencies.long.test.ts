import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { acknowledgeIncident, listIncidents } from '../../../lib/alerts/index.ts'
import type { PolicyInput } from '../../../lib/config/index.ts'
import { memoryStore } from '../../health/support.ts'
import { useTestDatabase } from '../../support/database.ts'
import { doubles } from '../../support/doubles.ts'
import { type Dependency, type Mood, startDependency } from './dependency.ts'
import { type Operations, operations } from './operations.ts'

const test = useTestDatabase()
let dependency: Dependency
let health: PolicyInput['health']

/** A patience that is only as short as a mood needs it: on a busy machine what is well is slow as well. */
const checked = (timeoutMs = 20_000): PolicyInput['health'] => ({
  checks: {
    database: {},
    app: { kind: 'url', url: dependency.url, timeoutMs, critical: true },
    checkout: { kind: 'url', url: `${dependency.url}checkout`, timeoutMs, dependsOn: ['app'] },
    search: { kind: 'url', url: `${dependency.url}search`, timeoutMs, dependsOn: ['checkout'] },
  },
})

beforeAll(async () => {
  dependency = await startDependency()
  health = checked()
})
afterAll(() => dependency.close())
beforeEach(() => dependency.set('well'))

/** Not that somebody watches again after a gap. */
const ofIncidents = (one: string) => !one.includes('Watching again')

/** An operation that has found everything well. */
async function wellOperations(policy: Omit<PolicyInput, 'app'> = {}): Promise<Operations> {
  const made = operations(test.db, { health, ...policy })
  doubles.use(...made.handlers)
  await made.minutes(2)
  expect(await made.said()).toEqual([])
  return made
}

describe('a dependency that is', () => {
  it.each<[Mood, string]>([
    ['slow', 'did not answer in time'],
    ['hanging', 'did not answer in time'],
    ['refusing', 'refused the connection'],
    ['cutting', 'broke the connection'],
    ['failing', 'answered with a server error'],
    ['lying', 'redirects to another host'],
  ])('%s is told of in the next minute, once, with what suffers from it, and so is its end', async (mood, words) => {
    const { said, minutes, ctx, slack, pagerDuty } = await wellOperations(
      mood === 'slow' || mood === 'hanging' ? { health: checked(2_000) } : {},
    )
    await dependency.set(mood)
    await minutes()
    expect(await said()).toEqual(['opened app'])
    expect(slack.sent[0]?.text).toContain(words)
    expect(slack.sent[0]?.body).toContain('*Also affected:* checkout, search')
    await minutes()
    await dependency.set('well')
    await minutes(10)
    expect(await said()).toEqual(['opened app', 'resolved app'])
    expect(pagerDuty.incidents).toMatchObject([{ state: 'resolved', severity: 'critical', repeats: 0 }])
    expect(await listIncidents(ctx)).toMatchObject([{ component: 'app', state: 'resolved', affected: ['checkout', 'search'] }])
  })

  it('flapping between two looks asks for nobody twice, and is told as over when it is', async () => {
    const { said, minutes, pagerDuty } = await wellOperations()
    for (let turn = 0; turn < 15; turn++) {
      await dependency.set(turn % 2 === 0 ? 'failing' : 'well')
      await minutes()
    }
    expect(await said()).toEqual(['opened app'])
    await dependency.set('well')
    await minutes(7)
    expect(await said()).toEqual(['opened app', 'resolved app'])
    expect(pagerDuty.incidents).toMatchObject([{ repeats: 0 }])
  })

  it('answering every other request is confirmed before it is told', async () => {
    const { said, minutes, ctx } = await wellOperations()
    await dependency.set('flapping')
    await minutes(20)
    const incidents = await listIncidents(ctx)
    expect(incidents.length).toBeLessThanOrEqual(1)
    expect((await said()).filter((one) => one.startsWith('opened')).length).toBe(incidents.length)
  })

  it('lost for a moment is nobody’s business', async () => {
    const { said, minutes, ctx } = await wellOperations({ health: { ...health, confirmAfterMs: 200 } })
    const before = dependency.asked()
    await dependency.set('failing')
    // It recovers between the two looks of one minute.
    const recovered = (async () => {
      while (dependency.asked() < before + 3) await new Promise((resolve) => setImmediate(resolve))
      await dependency.set('well')
    })()
    await minutes()
    await recovered
    await minutes()
    expect([await said(), await listIncidents(ctx)]).toEqual([[], []])
  })
})

describe('a cause', () => {
  it('that outlasts a reminder period is told again until somebody acknowledges, and never after', async () => {
    const { said, minutes, clock, ctx, pagerDuty } = await wellOperations({
      alerts: { channels: { slack: {}, pagerduty: {} }, remindEvery: '10 minutes' },
    })
    await dependency.set('failing')
    await minutes(25)
    expect(await said()).toEqual(['opened app', 'still app', 'still app'])
    await acknowledgeIncident(ctx, { incident: '1' })
    await minutes()
    clock.advance(24 * 3_600_000)
    await minutes(2)
    expect((await said()).filter(ofIncidents)).toEqual(['opened app', 'still app', 'still app', 'acknowledged app'])
    expect(pagerDuty.incidents).toMatchObject([{ state: 'acknowledged' }])
    await dependency.set('well')
    await minutes(7)
    expect((await said()).at(-1)).toBe('resolved app')
    expect(pagerDuty.incidents).toMatchObject([{ state: 'resolved' }])
  })

  it('that is over leaves nobody thinking that what suffered from it, and was well again a little later, is broken', async () => {
    const below = await startDependency()
    try {
      const { said, minutes } = await wellOperations({
        health: {
          checks: {
            app: { kind: 'url', url: dependency.url, timeoutMs: 20_000 },
            checkout: { kind: 'url', url: below.url, timeoutMs: 20_000, dependsOn: ['app'] },
          },
        },
      })
      await Promise.all([dependency.set('failing'), below.set('failing')])
      await minutes(3)
      await dependency.set('well')
      await minutes()
      await below.set('well')
      await minutes(15)
      expect(await said()).toEqual(['opened app', 'resolved app'])
      // One that stays broken is told of by itself.
      await Promise.all([dependency.set('failing'), below.set('failing')])
      await minutes(3)
      await dependency.set('well')
      await minutes(30)
      expect((await said()).slice(2)).toEqual(['again app', 'opened checkout', 'resolved app'])
    } finally {
      await below.close()
    }
  })

  it('beside another is an incident of its own', async () => {
    const objects = memoryStore()
    const made = operations(
      test.db,
      { health: { checks: { ...health?.checks, 'object-store': {} } } },
      { objects: () => Promise.resolve(objects) },
    )
    doubles.use(...made.handlers)
    await made.minutes(2)
    objects.lies = true
    await dependency.set('failing')
    await made.minutes(3)
    expect((await made.said()).sort()).toEqual(['opened app', 'opened object-store'])
    objects.lies = false
    await made.minutes(8)
    await dependency.set('well')
    await made.minutes(8)
    expect((await made.said()).slice(2)).toEqual(['resolved object-store', 'resolved app'])
  })
})

describe('the clock', () => {
  it('leaping ahead by days and back pages nobody for what is well, and loses nothing of what is not', async () => {
    const { said, minutes, clock } = await wellOperations()
    clock.advance(3 * 24 * 3_600_000)
    await minutes(2)
    clock.advance(-2 * 24 * 3_600_000)
    await minutes(2)
    expect((await said()).filter(ofIncidents)).toEqual([])
    await dependency.set('failing')
    await minutes(2)
    clock.advance(-3_600_000)
    await minutes(2)
    await dependency.set('well')
    await minutes(12)
    expect((await said()).filter(ofIncidents)).toEqual(['opened app', 'resolved app'])
  })
})

describe('two at once', () => {
  it('tell of a cause and of its end once', async () => {
    const { ctx, said, clock, pagerDuty } = await wellOperations()
    const { steps } = await import('./operations.ts')
    const together = async () => {
      clock.advance(60_000)
      for (const step of Object.values(steps)) await Promise.all([step(ctx), step({ ...ctx }), step({ ...ctx })])
    }
    await dependency.set('failing')
    for (let minute = 0; minute < 3; minute++) await together()
    await dependency.set('well')
    for (let minute = 0; minute < 8; minute++) await together()
    expect(await said()).toEqual(['opened app', 'resolved app'])
    expect(pagerDuty.incidents).toMatchObject([{ state: 'resolved', repeats: 0 }])
    expect(await listIncidents(ctx)).toHaveLength(1)
  })
})

describe('a channel that', () => {
  it('fails, and limits the rate, gets everything in the end, in order', async () => {
    const { said, minutes, slack, pagerDuty } = await wellOperations()
    slack.failWith = 503
    await dependency.set('failing')
    await minutes(4)
    expect([await said(), pagerDuty.incidents.length]).toEqual([[], 1])
    slack.failWith = 429
    slack.retryAfter = '120'
    await minutes(4)
    delete slack.failWith
    await minutes(20)
    expect(await said()).toEqual(['opened app', ...(await said()).slice(1)])
    await dependency.set('well')
    slack.failWith = 500
    await minutes(12)
    delete slack.failWith
    await minutes(20)
    expect((await said()).filter(ofIncidents)).toEqual(['opened app', 'resolved app'])
  })
})
