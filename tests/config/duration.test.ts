import { describe, expect, it } from 'vitest'
import { durationMs } from '../../lib/config/duration.ts'
import { useTestDatabase } from '../support/database.ts'

describe('durationMs', () => {
  const test = useTestDatabase()

  it.each(['1 second', '90 seconds', '5 minutes', '36 hours', '30 days', '2 weeks', '24 months', '10 years', '999999 days'])(
    'takes %j as PostgreSQL does, months by their mean',
    async (duration) => {
      const [row] = await test.db.query<{ seconds: number }>(`select extract(epoch from $1::interval)::float8 as seconds`, [duration])
      // PostgreSQL counts a month as 30 days and a year as 365.25 in epoch; the Gregorian mean is within 2 percent.
      expect(Math.abs(durationMs(duration) / 1_000 / (row?.seconds ?? 0) - 1)).toBeLessThan(0.02)
    },
  )

  it.each([
    '',
    '0 days',
    '-1 days',
    '1.5 days',
    '30',
    'days',
    '30 dayss',
    '30  days',
    ' 30 days',
    '30 Days',
    '1 fortnight',
    '1000000 days',
    '30 days ago',
  ])('refuses %j', (duration) => {
    expect(() => durationMs(duration)).toThrow(
      expect.objectContaining({ code: 'policy_invalid', detail: expect.stringContaining('expected a duration such as "30 days"') }),
    )
  })
})
