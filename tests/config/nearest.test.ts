import { describe, expect, it } from 'vitest'
import { nearest } from '../../lib/config/nearest.ts'

describe('nearest', () => {
  const candidates = ['retention', 'schedules', 'backup', 'health', 'gdpr']

  it.each([
    ['retenton', 'retention'],
    ['RETENTION', 'retention'],
    ['schedule', 'schedules'],
    ['bakcup', 'backup'],
    ['gpdr', 'gdpr'],
    ['heath', 'health'],
    ['zzzzz', undefined],
    ['', undefined],
  ])('takes %j for %j', (word, candidate) => {
    expect(nearest(word, candidates)).toBe(candidate)
  })

  it('has nothing to offer without candidates', () => {
    expect(nearest('backup', [])).toBeUndefined()
  })
})
