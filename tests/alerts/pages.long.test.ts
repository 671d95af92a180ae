import { expect, it } from 'vitest'
import { evaluateAlerts, listIncidents, sendNotifications } from '../../lib/alerts/index.ts'
import { type AlertState, step, wellState } from '../../lib/alerts/step.ts'
import type { Context } from '../../lib/platform/context.ts'
import { pagerDutyApi, pagerDutyState } from '../doubles/pagerduty.ts'
import { slackApi, slackState } from '../doubles/slack.ts'
import { useTestDatabase } from '../support/database.ts'
import { doubles } from '../support/doubles.ts'
import fc from '../support/fast-check.ts'
import { alertContext, newWorld, sourcesOf } from './world.ts'

const test = useTestDatabase()

/*
 * Whatever breaks, recovers, flaps and cannot be told, in whatever order, causes after their consequences and many at once, while a channel
 * takes nothing and two evaluate at once: what people hear is held against what was so.
 */

const remindMinutes = 20
const thresholds = { forMs: 0, keepFiringForMs: 3 * 60_000 }
const atLeast = 3
// What is a cause by name has nothing to do with its place in the tree.
const components = ['mill', 'apple', 'zebra', 'crow', 'kettle', 'bread', 'tower', 'dune'] as const
type Component = (typeof components)[number]

type Found = 'up' | 'down' | 'unknown'
interface Minute {
  found: Record<Component, Found>
  /** The channels take nothing. */
  deaf: boolean
  /** Two evaluate at once. */
  twice: boolean
}
interface History {
  /** What each component stands on, directly. */
  parents: Map<Component, Component>
  /** Reached through the database. */
  near: Set<Component>
  minutes: Minute[]
}

const found = fc.oneof(
  { weight: 8, arbitrary: fc.constant<Found>('up') },
  { weight: 3, arbitrary: fc.constant<Found>('down') },
  fc.constant<Found>('unknown'),
)
/** A component stays as it is for some minutes. */
const course = fc
  .array(fc.tuple(found, fc.integer({ min: 1, max: 15 })), { minLength: 1, maxLength: 5 })
  .map((stretches) => stretches.flatMap(([one, minutes]) => Array.from({ length: minutes }, () => one)))
/** Many break at once, or nearly, and are mended one by one. */
const storm = fc.record({
  at: fc.integer({ min: 0, max: 40 }),
  of: fc.subarray([...components], { minLength: 3 }),
  late: fc.array(fc.integer({ min: 0, max: 2 }), { minLength: 8, maxLength: 8 }),
  lasts: fc.array(fc.integer({ min: 1, max: 12 }), { minLength: 8, maxLength: 8 }),
})
/** A cause shows some minutes after what stands on it. */
const late = fc.record({ of: fc.constantFrom(...components), at: fc.integer({ min: 1, max: 40 }), lasts: fc.integer({ min: 1, max: 10 }) })

const history: fc.Arbitrary<History> = fc
  .record({
    courses: fc.array(course, { minLength: 8, maxLength: 8 }),
    parents: fc.array(fc.option(fc.nat(6), { freq: 2 }), { minLength: 8, maxLength: 8 }),
    near: fc.subarray([...components], { maxLength: 2 }),
    storms: fc.array(storm, { maxLength: 2 }),
    causes: fc.array(late, { maxLength: 3 }),
    deaf: fc.array(fc.boolean(), { minLength: 1, maxLength: 6 }),
    twice: fc.boolean(),
    length: fc.integer({ min: 10, max: 50 }),
  })
  .map(({ courses, parents: above, near, storms, causes, deaf, twice, length }) => {
    const parents = new Map(
      components.flatMap((name, index) => {
        const parent = above[index]
        return index === 0 || parent === null || parent === undefined ? [] : [[name, components[parent % index] as Component] as const]
      }),
    )
    const foundAt = (name: Component, index: number, minute: number): Found => {
      const strikes = storms.some(({ at, of, late: by, lasts }) => {
        const from = at + (by[index] ?? 0)
        return of.includes(name) && minute >= from && minute < from + (lasts[index] ?? 0)
      })
      const caused = causes.some(({ of, at, lasts }) => {
        const falls = name === of ? at : [...ancestorsOf(name, parents)].includes(of) ? at - 1 : Number.POSITIVE_INFINITY
        return minute >= falls && minute < at + lasts
      })
      return strikes || caused ? 'down' : (courses[index]?.[minute] ?? 'up')
    }
    return {
      parents,
      near: new Set(near),
      minutes: Array.from({ length }, (_, minute) => ({
        found: Object.fromEntries(components.map((name, index) => [name, foundAt(name, index, minute)])) as Record<Component, Found>,
        deaf: deaf[Math.floor(minute / 10) % deaf.length] === true && minute < length - 10,
        twice: twice && minute % 7 === 0,
      })),
    }
  })

/** A consequence a minute before its cause, and a storm beside them of which one outlasts the others. */
const causeAfterwards: History = {
  parents: new Map([['apple', 'zebra']]),
  near: new Set(['apple', 'zebra']),
  minutes: Array.from({ length: 20 }, (_, minute) => {
    const down: Partial<Record<Component, boolean>> = {
      ...{ apple: minute < 9, zebra: minute > 0 && minute < 4 },
      ...{ mill: minute < 3, crow: minute > 0 && minute < 3, kettle: minute > 0 && minute < 3, bread: minute > 0 && minute < 12 },
    }
    const found = Object.fromEntries(components.map((name) => [name, down[name] === true ? 'down' : 'up'])) as Record<Component, Found>
    return { found, deaf: false, twice: false }
  }),
}

function ancestorsOf(name: Component, parents: ReadonlyMap<Component, Component>): Component[] {
  const parent = parents.get(name)
  return parent === undefined ? [] : [parent, ...ancestorsOf(parent, parents)]
}

/** How it is, as far as anybody can tell. */
class Truth {
  readonly states = new Map<Component, AlertState>(components.map((name) => [name, wellState]))
  readonly parents: ReadonlyMap<Component, Component>
  constructor(parents: ReadonlyMap<Component, Component>) {
    this.parents = parents
  }
  look(now: Record<Component, Found>, at: Date): void {
    for (const name of components) {
      const sample = now[name] === 'unknown' ? null : now[name] === 'down'
      this.states.set(name, step(this.states.get(name) ?? wellState, sample, at, thresholds).state)
    }
  }
  fires(name: Component): boolean {
    return this.states.get(name)?.status === 'firing'
  }
  /** It fails now; what was down when it could be told last is down until somebody can tell that it is not. */
  fails(name: Component): boolean {
    return this.fires(name) && this.states.get(name)?.wellSince === null
  }
  /** It fails, and nothing that it stands on explains it. */
  isCause(name: Component): boolean {
    return this.fails(name) && !ancestorsOf(name, this.parents).some((above) => this.fires(above))
  }
}

interface Held extends Record<string, unknown> {
  number: number
  component: string
  alert: Component
  told: boolean
  /** It has come back within a reminder period. */
  back: boolean
}

/** Which alerts open incidents have now. */
function heldNow(ctx: Context): Promise<Held[]> {
  return test.db.query<Held>(
    `select i.number, i.component, a.component as alert,
       exists (select from caretaker.notifications n where n.incident = i.id and n.kind in ('opened', 'reopened')) as told,
       exists (select from caretaker.incident_events e where e.incident = i.id and e.kind = 'reopened'
         and e.at > $2::timestamptz - make_interval(mins => $3::int)) as back
     from caretaker.incidents i join caretaker.incident_alerts a on a.incident = i.id and a.cleared_at is null
     where i.environment = $1 and i.state <> 'resolved' and i.component <> 'notifications'`,
    [ctx.env.CARETAKER_ENVIRONMENT, ctx.clock.now(), remindMinutes],
  )
}

/** Which incidents were opened, or brought back, in this minute, and for which alerts. */
function begunNow(ctx: Context): Promise<{ number: number; component: string; alerts: Component[] }[]> {
  return test.db.query(
    `select i.number, i.component, array(select a.component from caretaker.incident_alerts a where a.incident = i.id and a.cleared_at is null) as alerts
     from caretaker.incidents i join caretaker.incident_events e on e.incident = i.id
     where i.environment = $1 and i.component <> 'notifications' and e.kind in ('opened', 'reopened') and e.at = $2::timestamptz`,
    [ctx.env.CARETAKER_ENVIRONMENT, ctx.clock.now()],
  )
}

const together = 'several-dependencies'

async function holdsNow(ctx: Context, truth: Truth, near: ReadonlySet<Component>): Promise<void> {
  const held = await heldNow(ctx)
  for (const name of components) {
    const mine = held.filter(({ alert }) => alert === name)
    // An alert belongs to one incident.
    expect(mine.length, name).toBeLessThanOrEqual(1)
    // No condition without a page: whatever is a cause now is in an open incident that somebody was told of.
    if (truth.isCause(name)) expect(mine, `${name} fails`).toMatchObject([{ told: true }])
    // One incident a cause: what a cause explains that is told of has none of its own, unless it would come and go with it.
    const explained = truth.fails(name) && ancestorsOf(name, truth.parents).some((above) => truth.isCause(above))
    for (const { component, back } of mine) if (explained && component !== together) expect(back, `${name} is explained`).toBe(true)
  }
  const begun = await begunNow(ctx)
  // No page without the condition: something of it is a cause now.
  for (const { number, alerts } of begun)
    expect(
      alerts.some((name) => truth.isCause(name)),
      `incident ${number}`,
    ).toBe(true)
  // What begins together is one incident.
  const reached = (name: Component) => ![name, ...ancestorsOf(name, truth.parents)].some((one) => near.has(one))
  const alone = begun.filter(({ component, alerts }) => {
    const [name] = alerts
    const began = name === undefined ? undefined : truth.states.get(name)?.since?.getTime()
    return component !== together && name !== undefined && reached(name) && began === ctx.clock.now().getTime()
  })
  expect(alone.length).toBeLessThan(atLeast)
}

it('no page without the condition, no condition without a page, one incident a cause and a storm, and at most one page of it a reminder period', {
  timeout: 240_000,
}, async () => {
  const seen = { merged: 0, storms: 0 }
  await fc.assert(
    fc.asyncProperty(history, async ({ minutes, parents, near }) => {
      const { ctx, minutes: pass } = alertContext(test.db, {
        channels: { slack: {}, pagerduty: {} },
        remindEvery: `${remindMinutes} minutes`,
        keepFiringFor: '3 minutes',
        storm: { atLeast, within: '2 minutes' },
      })
      const environment = ctx.env.CARETAKER_ENVIRONMENT
      const slack = slackState()
      const pagerDuty = pagerDutyState()
      doubles.use(...slackApi(slack), ...pagerDutyApi(pagerDuty))
      const world = newWorld([...components])
      world.critical.clear()
      world.tree = new Map(components.map((name) => [name, ancestorsOf(name, parents)]))
      world.near = new Set(components.filter((name) => [name, ...ancestorsOf(name, parents)].some((one) => near.has(one))))
      const sources = sourcesOf(world)
      const truth = new Truth(parents)
      const heard: { minute: number; number: number; words: string }[] = []
      const well = Object.fromEntries(components.map((name) => [name, 'up'])) as Record<Component, Found>
      const all = [...minutes, ...Array.from({ length: remindMinutes + 20 }, (): Minute => ({ found: well, deaf: false, twice: false }))]
      for (const [minute, { found: now, deaf, twice }] of all.entries()) {
        world.down = new Map(components.flatMap((name) => (now[name] === 'down' ? [[name, 'timeout'] as const] : [])))
        world.unknown = new Set(components.filter((name) => now[name] === 'unknown'))
        truth.look(now, ctx.clock.now())
        const evaluations = await Promise.all((twice ? [ctx, { ...ctx }] : [ctx]).map((one) => evaluateAlerts(one, sources)))
        expect(evaluations.some(({ evaluated }) => evaluated)).toBe(true)
        await holdsNow(ctx, truth, near)
        for (const channel of [slack, pagerDuty]) {
          if (deaf) channel.failWith = 503
          else delete channel.failWith
        }
        await sendNotifications(ctx, { pause: () => Promise.resolve() })
        // Nobody has acknowledged anything, and the channel is not what is looked at here.
        await test.db.execute('update caretaker.alert_channels set next_at = null where environment = $1', [environment])
        await test.db.execute(
          `update caretaker.notifications set next_attempt_at = created_at where environment = $1 and state = 'waiting'`,
          [environment],
        )
        for (const { text, body } of slack.sent.splice(0)) {
          const words = /: (Still|Escalated|Again|Worse|Resolved|Update|Part of #\d+): /.exec(text)?.[1] ?? 'Opened'
          const number = Number(/\*Incident:\* <[^|]*\|#(\d+)>/.exec(body)?.[1] ?? 0)
          heard.push({ minute, number, words: words.startsWith('Part of') ? 'Part' : words })
        }
        pass(1)
      }

      // That the channels take nothing is an incident too, and another story.
      const incidents = (await listIncidents(ctx, { limit: 1_000 })).filter(({ component }) => component !== 'notifications')
      expect(incidents.every(({ state }) => state === 'resolved')).toBe(true)
      expect(pagerDuty.incidents.filter(({ state }) => state !== 'resolved')).toEqual([])
      seen.merged += incidents.filter(({ partOf }) => partOf !== null).length
      seen.storms += incidents.filter(({ component }) => component === together).length
      for (const { number, partOf } of incidents) {
        const mine = heard.filter((one) => one.number === number)
        // It was told, and so was its end, as what it was.
        expect(mine.at(-1)?.words, `incident ${number}`).toBe(partOf === null ? 'Resolved' : 'Part')
        // Where everything was heard at once: one page a reminder period, unless people were told in between that it was over; and
        // however often it comes and goes, no more than two.
        if (minutes.some(({ deaf }) => deaf)) continue
        for (const [index, { words }] of mine.entries())
          if (['Resolved', 'Part'].includes(words)) expect(mine[index + 1]?.words ?? 'Again').toBe('Again')
        const pages = mine.filter(({ words }) => !['Resolved', 'Part', 'Escalated', 'Update'].includes(words))
        for (const [index, page] of pages.entries()) {
          const [next, afterNext] = pages.slice(index + 1)
          const overBetween = mine.some(
            ({ words, minute }) => ['Resolved', 'Part'].includes(words) && minute > page.minute && minute < (next?.minute ?? 0),
          )
          if (next !== undefined && !overBetween) expect(next.minute - page.minute).toBeGreaterThanOrEqual(remindMinutes)
          if (afterNext !== undefined) expect(afterNext.minute - page.minute).toBeGreaterThanOrEqual(remindMinutes)
        }
      }
      // One a cause: what comes back within a period is the same.
      for (const one of incidents)
        for (const other of incidents.filter(({ component, openedAt }) => component === one.component && openedAt > one.openedAt))
          expect(other.openedAt.getTime() - one.openedAt.getTime()).toBeGreaterThanOrEqual(remindMinutes * 60_000)
    }),
    { numRuns: 12, endOnFailure: true, examples: [[causeAfterwards]] },
  )
  // Both were there to be seen.
  expect(seen.merged).toBeGreaterThan(0)
  expect(seen.storms).toBeGreaterThan(0)
})
