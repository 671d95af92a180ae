import { describe, expect, it } from 'vitest'
import type { ReportPeriod } from '../../../lib/config/index.ts'
import { reportWindow } from '../../../lib/maintenance/reports/period.ts'
import { useTestDatabase } from '../../support/database.ts'
import fc from '../../support/fast-check.ts'

const zones = ['UTC', 'Europe/Berlin', 'America/New_York', 'Australia/Lord_Howe', 'America/Sao_Paulo', 'Asia/Kathmandu', 'Pacific/Apia']
const periods: ReportPeriod[] = ['hour', 'day', 'week', 'month', 'quarter', 'year']

describe('reportWindow', () => {
  const test = useTestDatabase()
  const window = async (slot: string, period: ReportPeriod, zone: string) => {
    const { from, to, label } = await reportWindow(test.db, new Date(slot), period, zone)
    return [from.toISOString(), to.toISOString(), label]
  }

  it.each<[slot: string, ReportPeriod, zone: string, from: string, to: string, label: string]>([
    ['2026-11-01T04:00:00Z', 'month', 'UTC', '2026-10-01T00:00:00.000Z', '2026-11-01T00:00:00.000Z', '2026-10'],
    // The month in which the clocks go back begins in summer time and ends in winter time.
    ['2026-11-01T03:00:00Z', 'month', 'Europe/Berlin', '2026-09-30T22:00:00.000Z', '2026-10-31T23:00:00.000Z', '2026-10'],
    ['2026-04-01T04:00:00Z', 'month', 'Europe/Berlin', '2026-02-28T23:00:00.000Z', '2026-03-31T22:00:00.000Z', '2026-03'],
    // Exactly at the boundary the period that ends there is over.
    ['2026-10-31T23:00:00Z', 'month', 'Europe/Berlin', '2026-09-30T22:00:00.000Z', '2026-10-31T23:00:00.000Z', '2026-10'],
    ['2026-10-31T22:59:59Z', 'month', 'Europe/Berlin', '2026-08-31T22:00:00.000Z', '2026-09-30T22:00:00.000Z', '2026-09'],
    // Days of 23 and 25 hours.
    ['2026-03-30T06:00:00Z', 'day', 'Europe/Berlin', '2026-03-28T23:00:00.000Z', '2026-03-29T22:00:00.000Z', '2026-03-29'],
    ['2026-10-26T06:00:00Z', 'day', 'Europe/Berlin', '2026-10-24T22:00:00.000Z', '2026-10-25T23:00:00.000Z', '2026-10-25'],
    // The hour that comes twice comes twice, under two names.
    ['2026-10-25T01:10:00Z', 'hour', 'Europe/Berlin', '2026-10-25T00:00:00.000Z', '2026-10-25T01:00:00.000Z', '2026-10-25T0000Z'],
    ['2026-10-25T02:10:00Z', 'hour', 'Europe/Berlin', '2026-10-25T01:00:00.000Z', '2026-10-25T02:00:00.000Z', '2026-10-25T0100Z'],
    ['2026-01-04T12:00:00Z', 'week', 'UTC', '2025-12-22T00:00:00.000Z', '2025-12-29T00:00:00.000Z', '2025-W52'],
    ['2026-01-05T00:00:00Z', 'week', 'UTC', '2025-12-29T00:00:00.000Z', '2026-01-05T00:00:00.000Z', '2026-W01'],
    ['2026-02-10T00:00:00Z', 'quarter', 'UTC', '2025-10-01T00:00:00.000Z', '2026-01-01T00:00:00.000Z', '2025-Q4'],
    ['2026-02-10T00:00:00Z', 'year', 'UTC', '2025-01-01T00:00:00.000Z', '2026-01-01T00:00:00.000Z', '2025'],
    ['2026-06-15T00:00:00Z', 'day', 'Asia/Kathmandu', '2026-06-13T18:15:00.000Z', '2026-06-14T18:15:00.000Z', '2026-06-14'],
  ])('of %s by %s in %s', async (slot, period, zone, from, to, label) => {
    expect(await window(slot, period, zone)).toEqual([from, to, label])
  })

  it('names a zone that is none', async () => {
    await expect(reportWindow(test.db, new Date(0), 'day', 'Europe/Berlim')).rejects.toMatchObject({
      code: 'policy_invalid',
      detail: 'app.timezone: found "Europe/Berlim", expected an IANA time zone such as "Europe/Berlin".',
    })
  })

  it('is the slot itself without a period', async () => {
    expect(await reportWindow(test.db, new Date('2026-11-21T06:30:00Z'), undefined, 'UTC')).toEqual({
      slot: new Date('2026-11-21T06:30:00Z'),
      from: new Date('2026-11-21T06:30:00Z'),
      to: new Date('2026-11-21T06:30:00Z'),
      timezone: 'UTC',
      label: '20261121T063000Z',
    })
  })

  it('begins where the one before it ends, in every zone: nothing is reported twice, and nothing never', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.constantFrom(...zones),
        fc.constantFrom(...periods),
        fc.date({ min: new Date('2010-01-01T00:00:00Z'), max: new Date('2030-01-01T00:00:00Z'), noInvalidDate: true }),
        async (zone, period, slot) => {
          const at = async (instant: Date) => reportWindow(test.db, instant, period, zone)
          const mine = await at(slot)
          const before = await at(mine.from)
          const same = await at(mine.to)
          expect(mine.from < mine.to && mine.to <= slot).toBe(true)
          expect(before.to).toEqual(mine.from)
          expect([same.from, same.to, same.label]).toEqual([mine.from, mine.to, mine.label])
          expect(before.label).not.toBe(mine.label)
          expect(mine.label).toMatch(/^[\w-]+$/)
        },
      ),
      { numRuns: 150 },
    )
  })
})
