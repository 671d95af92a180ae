import { describe, expect, it } from 'vitest'
import { firingsADay, onceADay, utcCrons } from '../../../lib/jobs/hosts/utc-crons.ts'
import { nextSlots } from '../../../lib/jobs/index.ts'
import fc from '../../support/fast-check.ts'

const minuteMs = 60_000

describe('utcCrons', () => {
  it.each([
    // What hosts read as it stands, stays as it stands.
    ['0 2 * * *', 'UTC', ['0 2 * * *']],
    ['*/5  * * * *', 'Etc/UTC', ['*/5 * * * *']],
    ['0 5 * * 1-5', 'GMT', ['0 5 * * 1-5']],
    // Names, Sunday as 7, and both kinds of day are not read by every host.
    ['0 5 * JAN-MAR MON', 'UTC', ['0 5 * 1-3 1']],
    ['0 5 * * 7', 'UTC', ['0 5 * * 0']],
    ['0 5 1 * 1', 'UTC', ['0 5 1 * *', '0 5 * * 1']],
    ['0 5 1-7 * +1', 'UTC', ['0 5 * * 1']],
    ['0 5 L * *', 'UTC', ['0 5 28-31 * *']],
    // Winter and summer.
    ['0 3 * * *', 'Europe/Berlin', ['0 1,2 * * *']],
    ['30 * * * *', 'Asia/Kolkata', ['0 * * * *']],
    ['*/15 * * * *', 'Asia/Kathmandu', ['*/15 * * * *']],
    // The day before, as UTC counts.
    ['0 1 * * 0', 'Asia/Kolkata', ['30 19 * * 6']],
    ['0 1 1 * *', 'Asia/Tokyo', ['0 16 28-31 * *']],
    ['0 1 1 1 *', 'Asia/Tokyo', ['0 16 28-31 1,12 *']],
    ['0 22 31 * *', 'America/Phoenix', ['0 5 1 * *']],
  ])('%s in %s', (cron, timezone, expected) => {
    expect(utcCrons({ cron, timezone })).toEqual(expected)
  })

  it('fires every slot of any schedule; of those moved out of a gap of the clocks, within the hour after', { timeout: 60_000 }, () => {
    const zones = fc.constantFrom(
      'America/New_York',
      'America/St_Johns',
      'America/Havana',
      'Europe/Berlin',
      'Europe/Lisbon',
      'Africa/Casablanca',
      'Asia/Kolkata',
      'Asia/Kathmandu',
      'Australia/Lord_Howe',
      'Pacific/Chatham',
      'Pacific/Kiritimati',
      'Pacific/Pago_Pago',
    )
    const field = (least: number, most: number) =>
      fc.oneof(
        fc.constant('*'),
        fc.integer({ min: least, max: most }).map(String),
        fc.uniqueArray(fc.integer({ min: least, max: most }), { minLength: 2, maxLength: 3 }).map((list) => list.join(',')),
      )
    const cron = fc
      .tuple(
        fc.integer({ min: 0, max: 59 }),
        fc.oneof(fc.integer({ min: 0, max: 23 }).map(String), fc.constantFrom('*/6', '1,13', '22-23')),
        fc.oneof(field(1, 28), fc.constantFrom('L', '31', '15W', '1-7')),
        field(1, 12),
        fc.oneof(field(0, 7), fc.constantFrom('MON', '1-5', '+5', '1#1', 'FRI#L')),
      )
      .map((fields) => fields.join(' '))
    const from = new Date('2026-01-01T00:00:00Z')
    fc.assert(
      fc.property(cron, zones, (expression, timezone) => {
        const crons = utcCrons({ cron: expression, timezone })
        for (const one of crons) expect(one).toMatch(/^[\d*,/-]+( [\d*,/-]+){4}$/)
        const slots = nextSlots({ cron: expression, timezone }, from, 60)
        for (const slot of slots) {
          const firing = Math.min(
            ...crons.flatMap((one) => nextSlots({ cron: one, timezone: 'UTC' }, new Date(slot.getTime() - minuteMs), 1)).map(Number),
          )
          if (firing === slot.getTime()) continue
          const wall = new Intl.DateTimeFormat('en-GB', { timeZone: timezone, hour: '2-digit', minute: '2-digit' })
          const before = wall.format(slot.getTime() - minuteMs)
          const after = wall.format(slot)
          const jump =
            (Number(after.slice(0, 2)) * 60 + Number(after.slice(3)) - Number(before.slice(0, 2)) * 60 - Number(before.slice(3)) + 1_440) %
            1_440
          expect([expression, timezone, slot.toISOString(), jump > 1 ? 'a gap' : 'no gap']).toEqual([
            expression,
            timezone,
            slot.toISOString(),
            'a gap',
          ])
          expect(firing - slot.getTime()).toBeLessThan(60 * minuteMs)
        }
      }),
      { numRuns: 80 },
    )
  })
})

describe('for a plan that fires once a day', () => {
  it('an expression is taken apart', () => {
    expect(firingsADay('0 1-2 * * *')).toBe(2)
    expect(onceADay('0 1-2 * * 6')).toEqual(['0 1 * * 6', '0 2 * * 6'])
    expect(firingsADay('*/5 * * * *')).toBe(288)
  })
})
