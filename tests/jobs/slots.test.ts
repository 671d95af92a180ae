import { describe, expect, it } from 'vitest'
import { currentSlot, nextSlots, resolveSchedule, slotsBetween } from '../../lib/jobs/index.ts'
import fc from '../support/fast-check.ts'
import { oracleSlots } from './slot-oracle.ts'

const utc = (cron: string) => ({ cron, timezone: 'UTC' })
const iso = (dates: (Date | null)[]) => dates.map((date) => date?.toISOString())

describe('slots', () => {
  it('are current from their first millisecond on', () => {
    expect(currentSlot(utc('0 2 * * *'), new Date('2026-11-21T02:00:00.000Z'))?.toISOString()).toBe('2026-11-21T02:00:00.000Z')
    expect(currentSlot(utc('0 2 * * *'), new Date('2026-11-21T01:59:59.999Z'))?.toISOString()).toBe('2026-11-20T02:00:00.000Z')
  })

  it('between two instants exclude the first and include the last', () => {
    expect(iso(slotsBetween(utc('*/15 * * * *'), new Date('2026-11-21T10:00:00Z'), new Date('2026-11-21T10:45:00Z')))).toEqual([
      '2026-11-21T10:15:00.000Z',
      '2026-11-21T10:30:00.000Z',
      '2026-11-21T10:45:00.000Z',
    ])
  })

  it('happen once in an hour that happens twice, when the time of day is fixed', () => {
    // Berlin sets its clocks back on 2026-10-25 at 03:00 to 02:00.
    const berlin = { cron: '30 2 * * *', timezone: 'Europe/Berlin' }
    expect(iso(nextSlots(berlin, new Date('2026-10-24T12:00:00Z'), 2))).toEqual(['2026-10-25T00:30:00.000Z', '2026-10-26T01:30:00.000Z'])
  })

  it('happen on the day whose hour is left out', () => {
    // Berlin leaves out 02:00–03:00 on 2026-03-29.
    const berlin = { cron: '30 2 * * *', timezone: 'Europe/Berlin' }
    const days = slotsBetween(berlin, new Date('2026-03-28T12:00:00Z'), new Date('2026-03-29T12:00:00Z'))
    expect(days).toHaveLength(1)
  })

  it('refuse a zone that does not exist', () => {
    const refused = (cron: string, zone = 'UTC') => expect(() => resolveSchedule('backup', cron, zone))
    refused('0 3 * * *', 'Europe/Berlinn').toThrow(/backup.*Europe\/Berlinn/)
    refused('61 3 * * *').toThrow(/61 3/)
    refused('0 0 31 2 *').toThrow(/0 0 31 2.*expected a date that comes/)
  })
})

describe('against the definition, minute by minute', () => {
  it.each(['America/New_York', 'America/Havana', 'Europe/Berlin', 'Africa/Casablanca', 'Australia/Lord_Howe', 'Pacific/Chatham'])(
    'every kind of schedule over a year in %s',
    (timezone) => {
      const [from, until] = [new Date('2026-01-01T00:00:00Z'), new Date('2027-01-01T00:00:00Z')]
      for (const cron of [
        '30 2 * * *',
        '15,45 0,1,2,3 * * *',
        '0 0 * * *',
        '*/30 1-2 * * 0,6',
        '10 */6 1 * *',
        '45 1 L * *',
        '5 2 1-7 3,4,9-11 0',
      ])
        expect([cron, iso(slotsBetween({ cron, timezone }, from, until, 10_000))]).toEqual([
          cron,
          iso(oracleSlots({ cron, timezone }, from, until)),
        ])
    },
  )

  it('looked at from any moment, forward and back, they are the same', () => {
    const from = Date.UTC(2026, 0, 1)
    fc.assert(
      fc.property(
        fc.constantFrom('30 2 * * *', '*/20 * * * *', '15,45 0-3 * * *', '0 0,12 * * *'),
        fc.constantFrom('America/New_York', 'Europe/Berlin', 'Australia/Lord_Howe', 'America/Havana', 'Africa/Casablanca'),
        fc.oneof(
          fc.integer({ min: 0, max: 365 * 1_440 }),
          // Around the days on which clocks change there.
          fc.constantFrom(67, 87, 304, 299, 48, 80, 93, 276).chain((day) => fc.integer({ min: (day - 1) * 1_440, max: (day + 1) * 1_440 })),
        ),
        (cron, timezone, minute) => {
          const at = new Date(from + minute * 60_000)
          const [next] = nextSlots({ cron, timezone }, at, 1)
          if (next === undefined) throw new Error('a slot without end')
          expect(next > at).toBe(true)
          expect(currentSlot({ cron, timezone }, next)).toEqual(next)
          const before = currentSlot({ cron, timezone }, new Date(next.getTime() - 60_000))
          expect(before === null || before <= at).toBe(true)
          if (before !== null) expect(nextSlots({ cron, timezone }, before, 1)).toEqual([next])
        },
      ),
      { numRuns: 400 },
    )
  })
})
