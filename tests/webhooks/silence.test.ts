import { beforeEach, describe, expect, it } from 'vitest'
import { defineConfig } from '../../lib/config/index.ts'
import { fixedClock } from '../../lib/platform/clock.ts'
import { watchSources } from '../../lib/webhooks/index.ts'
import { expectedEvents } from '../../lib/webhooks/silence.ts'
import { testContext } from '../support/context.ts'
import { useTestDatabase } from '../support/database.ts'
import fc from '../support/fast-check.ts'

const hour = 3_600_000
const monday = Date.parse('2026-11-02T00:00:00Z')

/** Hourly counts of `weeks` weeks before `monday`. */
function counts(weeks: number, rate: (hourOfWeek: number, week: number) => number): Map<number, number> {
  const map = new Map<number, number>()
  for (let week = 0; week < weeks; week++)
    for (let at = 0; at < 168; at++) {
      const received = rate(at, week)
      if (received > 0) map.set(monday - (weeks - week) * 168 * hour + at * hour, received)
    }
  return map
}

const from = new Date(monday)
const until = (hours: number) => new Date(monday + hours * hour)

describe('the usual rate', () => {
  it('is that of the hour of the week, in parts of an hour too', () => {
    const office = counts(4, (at) => (at % 24 >= 9 && at % 24 < 17 && at < 120 ? 10 : 0))
    expect(expectedEvents(office, from, until(9))).toBe(0)
    expect(expectedEvents(office, from, until(9.5))).toBeCloseTo(5)
    expect(expectedEvents(office, from, until(12))).toBeCloseTo(30)
  })

  it('is not what came once: bursts and quiet weeks say nothing', () => {
    expect(
      expectedEvents(
        counts(4, (at, week) => (at === 3 && week === 3 ? 1_000 : 0)),
        from,
        until(24),
      ),
    ).toBe(0)
    expect(
      expectedEvents(
        counts(4, (_at, week) => (week === 1 ? 0 : 6)),
        from,
        until(3),
      ),
    ).toBeCloseTo(18)
  })

  it('of a few events a day is known by the day', () => {
    // Three a day, each week at another hour.
    const few = counts(4, (at, week) => (at % 24 === week * 5 ? 3 : 0))
    const daily = expectedEvents(few, from, until(72))
    expect(daily).toBeCloseTo(9)
  })

  it('is unknown before two weeks have passed', () => {
    expect(expectedEvents(new Map(), from, until(1_000))).toBe(0)
    expect(
      expectedEvents(
        counts(1, () => 50),
        from,
        until(100),
      ),
    ).toBe(0)
    expect(
      expectedEvents(
        counts(2, () => 50),
        from,
        until(2),
      ),
    ).toBeCloseTo(100)
  })

  it('never counts the silence itself, and grows with it', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 20 }), fc.integer({ min: 0, max: 400 }), fc.integer({ min: 0, max: 400 }), (rate, a, b) => {
        const steady = counts(4, () => rate)
        const [shorter, longer] = [Math.min(a, b), Math.max(a, b)]
        expect(expectedEvents(steady, from, until(longer))).toBeGreaterThanOrEqual(expectedEvents(steady, from, until(shorter)) - 1e-6)
        // Up to a week every hour has four weeks to compare with.
        if (longer <= 168) expect(expectedEvents(steady, from, until(longer))).toBeCloseTo(rate * longer)
      }),
      { numRuns: 50 },
    )
  })
})

describe('watching the sources', () => {
  const test = useTestDatabase()
  beforeEach(() => test.db.execute('truncate caretaker.inbox, caretaker.webhook_sources, caretaker.webhook_counts, caretaker.outbox'))

  const fill = (source: string, until: string) =>
    test.db.execute(
      `insert into caretaker.inbox (source, event_id, type, occurred_at, received_at, payload, state)
       select $1, $1 || extract(epoch from at), 'a.b', at, at, '', 'applied'
       from generate_series($2::timestamptz - interval '21 days', $2::timestamptz, interval '10 minutes') at`,
      [source, until],
    )
  const told = async () =>
    (
      await test.db.query<{ topic: string; source: string }>(
        `select topic, payload ->> 'source' as source from caretaker.outbox order by id`,
      )
    ).map(({ topic, source }) => `${topic} ${source}`)

  it('tells once that one is silent, and once that it is heard again', async () => {
    const clock = fixedClock('2026-11-21T12:00:00Z')
    const ctx = testContext(test.db, { clock, config: defineConfig({ app: { name: 'Test' }, webhooks: {} }) })
    await fill('stripe', '2026-11-21T12:00:00Z')
    await fill('twilio', '2026-11-21T12:00:00Z')
    expect(await watchSources(ctx)).toMatchObject([
      { source: 'stripe', silent: false },
      { source: 'twilio', silent: false },
    ])
    for (let minutes = 0; minutes < 180; minutes += 10) {
      clock.advance(600_000)
      await test.db.execute(
        `insert into caretaker.inbox (source, event_id, type, received_at, payload) values ('stripe', $1, 'a.b', $2::timestamptz, '')`,
        [`evt_${minutes}`, clock.now()],
      )
      // Asked for, not heard: it does not end the silence.
      await test.db.execute(
        `insert into caretaker.inbox (source, event_id, type, received_at, payload, fetched) values ('twilio', $1, 'a.b', $2::timestamptz, '', true)`,
        [`evt_${minutes}`, clock.now()],
      )
      await watchSources(ctx)
    }
    expect(await told()).toEqual(['webhooks.silent twilio'])
    const [{ since, expected } = {}] = await test.db.query<{ since?: string; expected?: number }>(
      `select payload ->> 'since' as since, (payload ->> 'expected')::int as expected from caretaker.outbox`,
    )
    expect([since, expected]).toEqual(['2026-11-21T12:00:00.000Z', 12])
    await Promise.all([watchSources(ctx), watchSources(ctx)])
    await test.db.execute(
      `insert into caretaker.inbox (source, event_id, type, received_at, payload) values ('twilio', 'evt_again', 'a.b', $1::timestamptz, '')`,
      [clock.now()],
    )
    await Promise.all([watchSources(ctx), watchSources(ctx)])
    expect(await told()).toEqual(['webhooks.silent twilio', 'webhooks.heard twilio'])
  })

  it('can be told what is too much, or not to', async () => {
    await fill('stripe', '2026-11-21T12:00:00Z')
    const clock = fixedClock('2026-11-21T14:00:00Z')
    const silenced = (silence: false | { expected: number }) =>
      watchSources(testContext(test.db, { clock, config: defineConfig({ app: { name: 'Test' }, webhooks: { silence } }) }))
    expect(await silenced({ expected: 100 })).toMatchObject([{ silent: false }])
    expect(await silenced(false)).toEqual([])
    expect(await silenced({ expected: 5 })).toMatchObject([{ silent: true }])
  })
})
