import { describe, expect, it } from 'vitest'
import { judge } from '../../lib/alerts/judge.ts'
import { type AlertState, jitterMs, loadState, type Sample, step, storeState, type Thresholds, wellState } from '../../lib/alerts/step.ts'
import fc from '../support/fast-check.ts'

const start = new Date('2026-11-21T00:00:00Z').getTime()
const minute = 60_000

/** Looks a minute apart unless the second of a pair says otherwise. */
function walk(looks: readonly (Sample | [Sample, number])[], thresholds: Thresholds) {
  let state: AlertState = wellState
  let at = start
  return looks.map((look) => {
    const [sample, pause] = Array.isArray(look) ? look : [look, minute]
    at += pause
    const after = step(state, sample, new Date(at), thresholds)
    state = after.state
    return { at, sample, change: after.change, status: state.status, state }
  })
}

const changes = (looks: readonly (Sample | [Sample, number])[], thresholds: Partial<Thresholds> = {}) =>
  walk(looks, { forMs: 0, keepFiringForMs: 0, ...thresholds }).map(({ change }) => change ?? '')

describe('one rule, look by look', () => {
  it('fires at the first look that finds it, and clears at the first that does not, where no time is given', () => {
    expect(changes([false, true, true, false, false])).toEqual(['', 'firing', '', 'resolved', ''])
  })

  it('waits until the condition has held for its time, though looks come seconds early', () => {
    expect(changes([true, true, true], { forMs: 2 * minute })).toEqual(['', '', 'firing'])
    expect(changes([true, [true, minute - 4_000], [true, minute - 4_000]], { forMs: 2 * minute })).toEqual(['', '', 'firing'])
    expect(changes([true, true, false, true, true], { forMs: 2 * minute })).toEqual(['', '', '', '', ''])
  })

  it('keeps firing through a short recovery', () => {
    expect(changes([true, false, true, false, false, false], { keepFiringForMs: 2 * minute })).toEqual([
      'firing',
      '',
      '',
      '',
      '',
      'resolved',
    ])
  })

  it('takes no answer for nothing: it neither fires, nor clears, nor forgets', () => {
    expect(changes([true, null, null, null, true, true], { forMs: 2 * minute })).toEqual(['', '', '', '', '', ''])
    expect(changes([true, true, null, true, true], { forMs: 2 * minute })).toEqual(['', '', '', '', 'firing'])
    expect(changes([true, null, null, null, false])).toEqual(['firing', '', '', '', 'resolved'])
  })

  it('is fired neither by a clock that jumps ahead nor by one that goes back', () => {
    const hour = 60 * minute
    expect(changes([true, [true, hour], [true, hour]], { forMs: 10 * minute })).toEqual(['', '', 'firing'])
    expect(changes([true, [true, hour]], { forMs: 10 * minute })).toEqual(['', ''])
    expect(changes([true, [true, -hour], true], { forMs: 2 * minute })).toEqual(['', '', ''])
    expect(changes([true, [false, hour], [false, -hour], false], { keepFiringForMs: 3 * minute })).toEqual(['firing', '', '', ''])
  })
})

describe('whether a figure is bad', () => {
  const figure = (value: number | null, samples = 100) => ({ value, samples })

  it('is said by the threshold until it fires, and by what it must come back to from then on', () => {
    expect(judge({ above: 80, recover: 70 }, figure(75), false)).toBe(false)
    expect(judge({ above: 80, recover: 70 }, figure(75), true)).toBe(true)
    expect(judge({ above: 80, recover: 70 }, figure(70), true)).toBe(false)
    expect(judge({ below: 0.5, recover: 0.6 }, figure(0.55), true)).toBe(true)
    expect(judge({ below: 0.5 }, figure(0.5), false)).toBe(false)
  })

  it('is not known without a figure, or from too few samples', () => {
    expect(judge({ above: 0.05 }, figure(null), false)).toBeNull()
    expect(judge({ above: 0.05 }, figure(Number.NaN), true)).toBeNull()
    expect(judge({ above: 0.05, minimum: 20 }, figure(1, 19), false)).toBeNull()
    expect(judge({ above: 0.05, minimum: 20 }, figure(1, 20), false)).toBe(true)
  })
})

const sample: fc.Arbitrary<Sample> = fc.oneof(
  { weight: 5, arbitrary: fc.constant(true) },
  { weight: 4, arbitrary: fc.constant(false) },
  fc.constant(null),
)
const pause = fc.oneof(
  { weight: 12, arbitrary: fc.constant(minute) },
  { weight: 4, arbitrary: fc.integer({ min: minute - 5_000, max: minute + 5_000 }) },
  fc.integer({ min: -3 * 60 * minute, max: 6 * 60 * minute }),
)
const looksOf = (one: fc.Arbitrary<number>) => fc.array(fc.tuple(sample, one), { minLength: 1, maxLength: 80 })
const thresholds = fc.record({
  forMs: fc.constantFrom(0, minute, 2 * minute, 5 * minute, 15 * minute),
  keepFiringForMs: fc.constantFrom(0, minute, 5 * minute),
})

describe('whatever the looks find and however the clock runs', () => {
  it('nothing fires without its condition, and nothing clears while it holds', () => {
    fc.assert(
      fc.property(looksOf(pause), thresholds, (looks, rule) => {
        const walked = walk(looks, rule)
        for (const [index, { change, sample: now }] of walked.entries()) {
          if (change === undefined) continue
          expect(now).toBe(change === 'firing')
          const wait = change === 'firing' ? rule.forMs : rule.keepFiringForMs
          if (wait === 0) continue
          // Back to the first of the looks that found the same: no other answer came between.
          const before = walked.slice(0, index).findLastIndex((look) => look.sample === !now)
          const same = walked.slice(before + 1, index + 1).filter((look) => look.sample === now)
          expect(same.length).toBeGreaterThanOrEqual(2)
          // However far the clock jumped, one pause made up no more than half of the time or a minute and a half.
          expect((same.length - 1) * Math.max(wait / 2, 90_000) + jitterMs).toBeGreaterThanOrEqual(wait)
        }
      }),
      { numRuns: 1_000 },
    )
  })

  it('firing and clearing take turns', () => {
    fc.assert(
      fc.property(looksOf(pause), thresholds, (looks, rule) => {
        const all = walk(looks, rule).flatMap(({ change }) => change ?? [])
        expect(all.every((change, index) => change === (index % 2 === 0 ? 'firing' : 'resolved'))).toBe(true)
      }),
    )
  })

  it('a condition that holds for its time on an honest clock fires, and one that is over for its time clears', () => {
    const honest = fc.integer({ min: minute - 4_000, max: minute + 4_000 })
    fc.assert(
      fc.property(looksOf(honest), thresholds, (looks, rule) => {
        const walked = walk(looks, rule)
        let run: typeof walked = []
        for (const look of walked) {
          run =
            look.sample !== null && run.every(({ sample: other }) => other === look.sample)
              ? [...run, look]
              : look.sample === null
                ? []
                : [look]
          const lasted = (run.at(-1)?.at ?? 0) - (run[0]?.at ?? 0)
          if (look.sample === true && run.length > 1 && lasted >= rule.forMs) expect(look.status).toBe('firing')
          if (look.sample === false && run.length > 1 && lasted >= rule.keepFiringForMs) expect(look.status).toBe('ok')
        }
      }),
      { numRuns: 1_000 },
    )
  })

  it('what is kept between two looks is all there is to know', () => {
    fc.assert(
      fc.property(looksOf(pause), thresholds, (looks, rule) => {
        let kept: AlertState = wellState
        let at = start
        const replayed = looks.map(([one, wait]) => {
          at += wait
          const after = step(loadState(JSON.parse(JSON.stringify(storeState(kept)))), one, new Date(at), rule)
          kept = after.state
          return after.change
        })
        expect(replayed).toEqual(walk(looks, rule).map(({ change }) => change))
      }),
    )
  })
})
