import { expect, it } from 'vitest'
import {
  changesBy,
  type HealthChange,
  type HealthState,
  type HistoryStatus,
  type Look,
  stateAfter,
} from '../../lib/health/history/status.ts'
import fc from '../support/fast-check.ts'

const validMs = 180_000
const statuses = ['up', 'down', 'maintenance', 'unknown'] as const satisfies HistoryStatus[]

/** Looks at growing times. */
const looks = fc.array(fc.record({ after: fc.integer({ min: 1, max: 600_000 }), status: fc.constantFrom(...statuses) }), {
  minLength: 1,
  maxLength: 60,
})

it('changes tell of every moment what the last look before it said, as long as that was valid', () => {
  fc.assert(
    fc.property(looks, (given) => {
      let at = 0
      let state: HealthState | undefined
      const changes: HealthChange[] = []
      const seen: { at: number; status: HistoryStatus }[] = []
      for (const { after, status } of given) {
        at += after
        const look: Look = { check: 'a', status, cause: null, durationMs: 1 }
        changes.push(...changesBy(state, look, new Date(at)))
        state = stateAfter(state, look, new Date(at), new Date(at + validMs))
        seen.push({ at, status })
        // Since when it stands as it does is when it last changed.
        expect(state.since).toEqual(changes.at(-1)?.at)
        expect(state.status).toBe(changes.at(-1)?.status)
      }
      const times = changes.map((change) => change.at.getTime())
      expect(times).toEqual(times.toSorted((a, b) => a - b))
      expect(new Set(times).size).toBe(times.length)
      // No change says what the one before it said: but for time unwatched between two of the same.
      for (const [index, change] of changes.entries()) expect(change.status).not.toBe(changes[index - 1]?.status)
      for (const moment of [...seen.flatMap((one) => [one.at, one.at + validMs - 1, one.at + validMs + 1])]) {
        if (moment > at) continue
        const last = seen.findLast((one) => one.at <= moment)
        const expected = last === undefined || moment >= last.at + validMs ? 'unknown' : last.status
        expect(changes.findLast((change) => change.at.getTime() <= moment)?.status).toBe(expected)
      }
    }),
    { numRuns: 300 },
  )
})
