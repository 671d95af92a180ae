import { describe, expect, it } from 'vitest'
import { fixedClock, systemClock } from '../../lib/platform/clock.ts'

describe('fixedClock', () => {
  it('stands still until it is moved', () => {
    const clock = fixedClock('2026-11-21T10:00:00Z')
    expect(clock.now()).toEqual(new Date('2026-11-21T10:00:00Z'))
    const before = clock.monotonicMs()
    clock.advance(90_000)
    expect(clock.now().toISOString()).toBe('2026-11-21T10:01:30.000Z')
    expect(clock.monotonicMs() - before).toBe(90_000)
  })

  it('gives away no date that others could change', () => {
    const clock = fixedClock('2026-11-21T10:00:00Z')
    clock.now().setFullYear(1999)
    expect(clock.now().getUTCFullYear()).toBe(2026)
  })

  it('refuses what is not a date', () => {
    expect(() => fixedClock('soon')).toThrow(/not a date: soon/)
  })
})

describe('systemClock', () => {
  it('agrees with the machine, and never goes back', () => {
    expect(Math.abs(systemClock.now().getTime() - Date.now())).toBeLessThan(1_000)
    const first = systemClock.monotonicMs()
    expect(systemClock.monotonicMs()).toBeGreaterThanOrEqual(first)
  })
})
