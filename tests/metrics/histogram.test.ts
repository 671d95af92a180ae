import { describe, expect, it } from 'vitest'
import { addTo, type Buckets, bucketOf, middleOf, quantile, upperBound } from '../../lib/metrics/histogram.ts'
import fc from '../support/fast-check.ts'

const shares = [0.5, 0.9, 0.95, 0.99]

/** Numbers in [0, 1) that are the same in every run. */
function* randoms(seed: number): Generator<number, never> {
  let state = seed
  for (;;) {
    state = (state * 1_664_525 + 1_013_904_223) % 2 ** 32
    yield state / 2 ** 32
  }
}
const random = randoms(7)
const uniform = () => random.next().value
const normal = () => Math.sqrt(-2 * Math.log(1 - uniform())) * Math.cos(2 * Math.PI * uniform())

const distributions: Record<string, () => number> = {
  uniform: () => 0.001 + uniform() * 5,
  'log-normal': () => Math.exp(-3 + normal()),
  exponential: () => -Math.log(1 - uniform()) * 0.2 + 0.001,
  'heavy tail': () => 0.01 / (1 - uniform()) ** 0.8,
  'two humps': () => (uniform() < 0.9 ? 0.02 : 3) * Math.exp(0.2 * normal()),
  constant: () => 0.25,
}

describe('buckets', () => {
  it('from 1 ms to 60 s are at most 110', () => {
    expect(bucketOf(60)).toBeLessThanOrEqual(110)
    expect(bucketOf(0.001)).toBe(0)
    expect(bucketOf(0)).toBe(0)
    expect(bucketOf(-5)).toBe(0)
    expect(bucketOf(Number.NaN)).toBe(0)
    expect(bucketOf(Number.POSITIVE_INFINITY)).toBeLessThan(1_000)
  })

  it('say any value to within 5 %', () => {
    fc.assert(
      fc.property(fc.double({ min: 0.001, max: 1e12, noNaN: true }), (value) => {
        expect(Math.abs(middleOf(bucketOf(value)) - value) / value).toBeLessThanOrEqual(0.050001)
        expect(value).toBeLessThanOrEqual(upperBound(bucketOf(value)) * (1 + 1e-6))
      }),
    )
  })
})

describe('percentiles of merged buckets', () => {
  it.each(Object.keys(distributions))('are within 5 %% of the exact ones: %s', (name) => {
    const minutes = Array.from({ length: 60 }, () => Array.from({ length: 200 }, () => (distributions[name] as () => number)()))
    const merged: Buckets = new Map()
    for (const minute of minutes) {
      const buckets: Buckets = new Map()
      for (const value of minute) addTo(buckets, bucketOf(value), 1)
      for (const [bucket, count] of buckets) addTo(merged, bucket, count)
    }
    const all = minutes.flat().sort((a, b) => a - b)
    for (const share of shares) {
      const exact = all[Math.ceil(share * all.length) - 1] as number
      const found = quantile(merged, share) as number
      expect([name, share, Math.abs(found - exact) / exact <= 0.0501]).toEqual([name, share, true])
    }
  })

  it('do not depend on the order of merging, and lie between the least and the greatest', () => {
    fc.assert(
      fc.property(fc.array(fc.double({ min: 0.001, max: 100, noNaN: true }), { minLength: 1, maxLength: 50 }), (values) => {
        const forwards: Buckets = new Map()
        const backwards: Buckets = new Map()
        for (const value of values) addTo(forwards, bucketOf(value), 1)
        for (const value of values.toReversed()) addTo(backwards, bucketOf(value), 1)
        const bounds = { min: Math.min(...values), max: Math.max(...values) }
        for (const share of shares) {
          const found = quantile(forwards, share, bounds) as number
          expect(found).toBe(quantile(backwards, share, bounds))
          expect(found).toBeGreaterThanOrEqual(bounds.min)
          expect(found).toBeLessThanOrEqual(bounds.max)
        }
      }),
    )
  })

  it('of nothing are null', () => {
    expect(quantile(new Map(), 0.5)).toBeNull()
  })
})
