import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import type { LimitDecision, RateLimiter } from '../../lib/platform/limiter.ts'

/** Begins a window of 60 seconds exactly. */
const windowStart = new Date('2026-11-21T10:00:00Z').getTime()

/**
 * What every limiter must do. `make` gives one that reads the time from `Date`, which these tests set; each test uses
 * keys of its own.
 */
export function rateLimiterConformance(make: () => Promise<RateLimiter> | RateLimiter): void {
  describe('as a rate limiter', () => {
    let limiter: RateLimiter
    let key = ''
    beforeEach(async () => {
      vi.useFakeTimers({ toFake: ['Date'], now: windowStart })
      limiter = await make()
      key = `key-${Math.random()}`
    })
    afterEach(() => {
      vi.useRealTimers()
    })
    const at = (seconds: number) => vi.setSystemTime(windowStart + seconds * 1_000)
    const hits = async (count: number, limit = 10, windowSeconds = 60) => {
      const decisions: LimitDecision[] = []
      for (let hit = 0; hit < count; hit++) decisions.push(await limiter.hit(key, limit, windowSeconds))
      return decisions
    }
    const allowed = (decisions: LimitDecision[]) => decisions.filter((decision) => decision.allowed).length

    it('lets the limit through and no more, and says what remains', async () => {
      const decisions = await hits(12)
      expect(decisions.map((decision) => decision.allowed)).toEqual([...Array<boolean>(10).fill(true), false, false])
      expect(decisions.map((decision) => decision.remaining)).toEqual([9, 8, 7, 6, 5, 4, 3, 2, 1, 0, 0, 0])
      for (const decision of decisions) {
        expect(decision.limit).toBe(10)
        expect(decision.resetSeconds).toBeGreaterThanOrEqual(1)
        expect(decision.resetSeconds).toBeLessThanOrEqual(121)
      }
    })

    it('slides: the window before counts by the part of it that is still in view', async () => {
      await hits(10)
      at(60)
      expect(allowed(await hits(1))).toBe(0)
      at(75)
      // A quarter of the new window is over: floor(0.75 × 10) = 7 still count.
      expect(allowed(await hits(10))).toBe(3)
      at(90)
      expect(allowed(await hits(10))).toBe(2)
      at(240)
      expect(allowed(await hits(11))).toBe(10)
    })

    it('does not count what it refused', async () => {
      await hits(50)
      at(90)
      expect(allowed(await hits(10))).toBe(5)
    })

    it('lets a hit through after the seconds it named', async () => {
      for (const [before, second] of [
        [0, 0],
        [0, 17.5],
        [4, 3],
        [10, 0.25],
        [7, 59.999],
      ] as const) {
        key = `${key}+`
        at(0)
        await hits(before)
        at(60 + second)
        let refusal: LimitDecision | undefined
        while (refusal === undefined) refusal = (await hits(1)).find((decision) => !decision.allowed)
        at(60 + second + refusal.resetSeconds)
        expect(allowed(await hits(1)), `${before} hits before, refused at ${second}`).toBe(1)
      }
    })

    it('keeps keys apart, and windows of one key', async () => {
      await hits(10)
      expect(allowed(await hits(3, 3, 3_600))).toBe(3)
      key = `${key}-other`
      expect(allowed(await hits(10))).toBe(10)
    })

    it('counts concurrent hits exactly', async () => {
      const decisions = await Promise.all(Array.from({ length: 60 }, () => limiter.hit(key, 25, 60)))
      expect(allowed(decisions)).toBe(25)
      expect(
        decisions
          .filter((decision) => decision.allowed)
          .map((decision) => decision.remaining)
          .sort((a, b) => a - b),
      ).toEqual(Array.from({ length: 25 }, (_, index) => index))
    })

    it('never holds more than twice the limit in any span of one window', async () => {
      const times: number[] = []
      // Bursts where they hurt most: late in one window and early in the next.
      for (const second of [59, 59.9, 60.1, 70, 90, 118, 119.9, 120.1, 150, 179.9, 181]) {
        at(second)
        for (const decision of await hits(12)) if (decision.allowed) times.push(second)
      }
      for (const start of times) expect(times.filter((time) => time >= start && time < start + 60).length).toBeLessThanOrEqual(20)
    })
  })
}
