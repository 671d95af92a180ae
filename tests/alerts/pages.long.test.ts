import fc from 'fast-check'
import { expect, it } from 'vitest'
import { evaluateAlerts, listIncidents, sendNotifications } from '../../lib/alerts/index.ts'
import { slackApi, slackState } from '../doubles/slack.ts'
import { useTestDatabase } from '../support/database.ts'
import { doubles } from '../support/doubles.ts'
import { alertContext, newWorld, sourcesOf } from './world.ts'

const test = useTestDatabase()

/*
 * Whatever breaks, recovers, flaps and cannot be told, in whatever order, while a channel takes nothing and two evaluate at once:
 * what people hear is held against what was so.
 */

const remindMinutes = 20
const keepMinutes = 3
const components = ['database', 'jobs', 'backup', 'supabase', 'supabase-auth', 'stripe'] as const
type Component = (typeof components)[number]
const parents: Partial<Record<Component, Component>> = { jobs: 'database', backup: 'database', 'supabase-auth': 'supabase' }

type Found = 'up' | 'down' | 'unknown'
interface Minute {
  found: Record<Component, Found>
  /** Slack takes nothing. */
  deaf: boolean
  /** Two evaluate at once. */
  twice: boolean
}

const found = fc.oneof(
  { weight: 6, arbitrary: fc.constant<Found>('up') },
  { weight: 3, arbitrary: fc.constant<Found>('down') },
  fc.constant<Found>('unknown'),
)
/** A component stays as it is for some minutes. */
const course = fc
  .array(fc.tuple(found, fc.integer({ min: 1, max: 15 })), { minLength: 1, maxLength: 6 })
  .map((stretches) => stretches.flatMap(([one, minutes]) => Array.from({ length: minutes }, () => one)))
const history = fc
  .record({
    courses: fc.tuple(course, course, course, course, course, course),
    deaf: fc.array(fc.boolean(), { minLength: 1, maxLength: 6 }),
    twice: fc.boolean(),
    length: fc.integer({ min: 10, max: 60 }),
  })
  .map(({ courses, deaf, twice, length }) =>
    Array.from({ length }, (_, minute): Minute => {
      const at = (index: number) => courses[index]?.[minute] ?? 'up'
      return {
        found: Object.fromEntries(components.map((name, index) => [name, at(index)])) as Record<Component, Found>,
        deaf: deaf[Math.floor(minute / 10) % deaf.length] === true && minute < length - 10,
        twice: twice && minute % 7 === 0,
      }
    }),
  )

/** Minutes in which the component was down and nothing above it explained it, as far as anybody could tell. */
function causes(minutes: readonly Minute[]): Map<Component, number[]> {
  const bad = new Map<Component, { firing: boolean; well: number }>(components.map((name) => [name, { firing: false, well: 0 }]))
  const told = new Map<Component, number[]>(components.map((name) => [name, []]))
  for (const [index, { found: now }] of minutes.entries()) {
    for (const name of components) {
      const state = bad.get(name) ?? { firing: false, well: 0 }
      if (now[name] === 'down') bad.set(name, { firing: true, well: 0 })
      else if (now[name] === 'up' && state.firing)
        bad.set(name, state.well >= keepMinutes ? { firing: false, well: 0 } : { firing: true, well: state.well + 1 })
    }
    for (const name of components) {
      const parent = parents[name]
      const own = bad.get(name)
      // What was down when it could be told last is down until somebody can tell that it is not.
      if (own?.firing === true && own.well === 0 && (parent === undefined || bad.get(parent)?.firing !== true)) told.get(name)?.push(index)
    }
  }
  return told
}

it('no page without the condition, no condition without a page, and at most one page a cause and reminder period', {
  timeout: 240_000,
}, async () => {
  await fc.assert(
    fc.asyncProperty(history, async (minutes) => {
      const { ctx, minutes: pass } = alertContext(test.db, {
        channels: { slack: {} },
        remindEvery: `${remindMinutes} minutes`,
        keepFiringFor: `${keepMinutes} minutes`,
      })
      const slack = slackState()
      doubles.use(...slackApi(slack))
      const world = newWorld([...components])
      const sources = sourcesOf(world)
      const heard: { minute: number; component: string; words: string }[] = []
      const calm: Minute = {
        found: Object.fromEntries(components.map((name) => [name, 'up'])) as Record<Component, Found>,
        deaf: false,
        twice: false,
      }
      const all = [...minutes, ...Array.from({ length: remindMinutes + 20 }, () => calm)]
      for (const [minute, { found: now, deaf, twice }] of all.entries()) {
        world.down.clear()
        world.unknown.clear()
        for (const name of components) {
          if (now[name] === 'down') world.down.set(name, 'timeout')
          if (now[name] === 'unknown') world.unknown.add(name)
        }
        const evaluations = await Promise.all(
          twice ? [evaluateAlerts(ctx, sources), evaluateAlerts(ctx, sources)] : [evaluateAlerts(ctx, sources)],
        )
        expect(evaluations.some(({ evaluated }) => evaluated)).toBe(true)
        if (deaf) slack.failWith = 503
        else delete slack.failWith
        await sendNotifications(ctx, { pause: () => Promise.resolve() })
        // Nobody has acknowledged anything, and the channel is not what is looked at here.
        await test.db.execute('update caretaker.alert_channels set next_at = null where environment = $1', [ctx.env.CARETAKER_ENVIRONMENT])
        await test.db.execute(
          `update caretaker.notifications set next_attempt_at = created_at where environment = $1 and state = 'waiting'`,
          [ctx.env.CARETAKER_ENVIRONMENT],
        )
        for (const { text } of slack.sent.splice(0)) {
          const [, words = 'Opened', component = ''] =
            /: (?:(Still|Escalated|Again|Worse|Resolved): )?([a-z-]+): is in trouble/.exec(text) ?? []
          heard.push({ minute, component, words })
        }
        pass(1)
      }

      const down = causes(all)
      // That Slack takes nothing is an incident too, and another story.
      const incidents = (await listIncidents(ctx, { limit: 1_000 })).filter(({ component }) => component !== 'notifications')
      expect(incidents.every(({ state }) => state === 'resolved')).toBe(true)
      for (const name of components) {
        const mine = heard.filter(({ component }) => component === name)
        const pages = mine.filter(({ words }) => words !== 'Resolved' && words !== 'Escalated')
        const bad = down.get(name) ?? []
        // No page without the condition: it held when its incident was opened or came back; a reminder is of an open one.
        for (const { words } of pages) if (words === 'Opened' || words === 'Again') expect(bad.length).toBeGreaterThan(0)
        if (bad.length === 0) expect(mine).toEqual([])
        // No condition without a page: whatever held is in an incident of its own, and its end was told.
        if (bad.length > 0) {
          expect(incidents.some(({ component }) => component === name)).toBe(true)
          expect(mine.at(-1)?.words).toBe('Resolved')
        }
        // Where everything was heard at once: one page a reminder period, unless people were told in between that it was over; and
        // however often it comes and goes, no more than two.
        if (minutes.every(({ deaf }) => !deaf))
          for (const [index, page] of pages.entries()) {
            const [next, afterNext] = pages.slice(index + 1)
            const overBetween = mine.some(
              ({ words, minute }) => words === 'Resolved' && minute > page.minute && minute < (next?.minute ?? 0),
            )
            if (next !== undefined && !overBetween) expect(next.minute - page.minute).toBeGreaterThanOrEqual(remindMinutes)
            if (afterNext !== undefined) expect(afterNext.minute - page.minute).toBeGreaterThanOrEqual(remindMinutes)
          }
      }
      // No incident without its cause, and one a cause: what comes back within a period is the same.
      for (const { component, openedAt } of incidents) {
        const minute = (openedAt.getTime() - new Date('2026-11-21T12:00:00Z').getTime()) / 60_000
        expect(down.get(component as Component)).toContain(minute)
        const others = incidents.filter((one) => one.component === component && one.openedAt > openedAt)
        for (const other of others) expect(other.openedAt.getTime() - openedAt.getTime()).toBeGreaterThanOrEqual(remindMinutes * 60_000)
      }
    }),
    { numRuns: 15, endOnFailure: true },
  )
})
