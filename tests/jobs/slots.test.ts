import { describe, expect, it } from 'vitest'
import { currentSlot, nextSlots, resolveSchedule, slotsBetween } from '../../lib/jobs/index.ts'

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
