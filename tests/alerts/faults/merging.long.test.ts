import { expect, it } from 'vitest'
import { evaluateAlerts, listIncidents, listNotifications, sendNotifications } from '../../../lib/alerts/index.ts'
import { pagerDutyApi, pagerDutyState } from '../../doubles/pagerduty.ts'
import { slackApi, slackState } from '../../doubles/slack.ts'
import { useTestDatabase } from '../../support/database.ts'
import { doubles } from '../../support/doubles.ts'
import { alertContext, newWorld, sourcesOf } from '../world.ts'
import { Killed, mortal } from './mortal.ts'

const test = useTestDatabase()
const noPause = { pause: () => Promise.resolve() }

const scenes = {
  'a consequence whose cause shows': { before: ['jobs'], and: ['jobs', 'database'], whole: 'database' },
  'a storm that takes over what was told a minute before': {
    before: ['stripe'],
    and: ['stripe', 'openai', 'twilio', 'make', 'hume'],
    whole: 'several-dependencies',
  },
}

it.each(Object.entries(scenes))(
  'killed at any step of the minute of %s, it is merged once, and everybody is told once',
  async (_name, scene) => {
    let deaths = 0
    for (let at = 1, dies = true; dies; at++) {
      const { ctx, minutes } = alertContext(test.db, { channels: { slack: {}, pagerduty: {} }, keepFiringFor: '1 minute' })
      const slack = slackState()
      const pagerDuty = pagerDutyState()
      doubles.use(...slackApi(slack), ...pagerDutyApi(pagerDuty))
      const world = newWorld(['database', 'jobs', 'stripe', 'openai', 'twilio', 'make', 'hume'])
      const sources = sourcesOf(world)
      const minute = async (failing: readonly string[], given = ctx) => {
        world.down = new Map(failing.map((check) => [check, 'timeout']))
        await evaluateAlerts(given, sources)
        await sendNotifications(given, noPause)
      }
      await minute(scene.before)
      minutes(1)
      const victim = mortal(ctx, at)
      await minute(scene.and, victim.ctx).catch((error: unknown) => {
        if (!(error instanceof Killed)) throw error
      })
      dies = victim.dead()
      deaths += Number(dies)
      for (let after = 0; after < 2; after++) {
        minutes(1)
        await minute(scene.and)
      }
      const where = `killed at step ${at}`
      expect(await listIncidents(ctx), where).toMatchObject([
        { number: 2, component: scene.whole, state: 'investigating', partOf: null },
        { number: 1, state: 'resolved', partOf: 2 },
      ])
      expect(pagerDuty.incidents.map(({ state }) => state).sort(), where).toEqual(['resolved', 'triggered'])
      expect((await listNotifications(ctx)).map(({ kind, channel, state }) => `${kind} ${channel} ${state}`).sort(), where).toEqual(
        ['opened', 'opened', 'resolved'].flatMap((kind) => [`${kind} pagerduty delivered`, `${kind} slack delivered`]).sort(),
      )
      // Slack knows no repeats: what it was told in the moment of a death it is told again.
      expect(new Set(slack.sent.map(({ text }) => text)).size, where).toBe(3)
      expect(slack.sent.length, where).toBeLessThanOrEqual(3 + Number(dies))
      doubles.resetHandlers()
    }
    expect(deaths).toBeGreaterThan(30)
  },
)
