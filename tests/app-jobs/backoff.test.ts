import { describe, expect, it } from 'vitest'
import { backoffMs, retryAfterMs } from '../../lib/app-jobs/backoff.ts'
import fc from '../support/fast-check.ts'

describe('backoffMs', () => {
  it('doubles up to a minute, with half of it left to chance', () => {
    expect([1, 2, 3, 4, 6, 7, 8, 1000].map((attempts) => backoffMs(attempts, 1))).toEqual([
      1_000, 2_000, 4_000, 8_000, 32_000, 60_000, 60_000, 60_000,
    ])
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 50 }), fc.double({ min: 0, max: 1, noNaN: true }), (attempts, random) => {
        const full = backoffMs(attempts, 1)
        expect(backoffMs(attempts, random)).toBeGreaterThanOrEqual(full / 2)
        expect(backoffMs(attempts, random)).toBeLessThanOrEqual(full)
      }),
    )
  })
})

describe('retryAfterMs', () => {
  const now = new Date('2026-11-21T12:00:00Z')
  it.each<[string | null, number | undefined]>([
    [null, undefined],
    ['0', 0],
    [' 120 ', 120_000],
    ['Sat, 21 Nov 2026 12:00:30 GMT', 30_000],
    ['Sat, 21 Nov 2026 11:00:00 GMT', 0],
    ['soon', undefined],
    ['-5', undefined],
    ['1.5', undefined],
    ['2026', 2_026_000],
    ['tomorrow GMT', undefined],
    ['2026-11-21T13:00:00Z', undefined],
  ])('reads %j', (header, ms) => {
    expect(retryAfterMs(header, now)).toBe(ms)
  })
})
