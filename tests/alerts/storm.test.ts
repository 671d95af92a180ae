import { describe, expect, it } from 'vitest'
import { type StormCandidate, stormsOf, stormTitle } from '../../lib/alerts/storm.ts'
import fc from '../support/fast-check.ts'

const began = new Date('2026-11-21T12:00:00Z')
const later = (seconds: number) => new Date(began.getTime() + seconds * 1_000)
const alert = (component: string, more: Partial<StormCandidate> = {}): StormCandidate => ({
  ...{ component, source: 'check', status: 'firing', since: began, failing: true, told: true, announced: false, remote: true, storm: null },
  ...more,
})
const settings = { atLeast: 3, withinMs: 120_000 }
const storms = (...alerts: StormCandidate[]) => stormsOf(alerts, settings).map((one) => one !== null)
const storm = began.toISOString()

describe('a storm', () => {
  it('is many that begin together, and those that were told of just before', () => {
    expect(stormsOf([alert('a'), alert('b'), alert('c')], settings)).toEqual([storm, storm, storm])
    expect(storms(alert('a'), alert('b'))).toEqual([false, false])
    expect(storms(alert('a', { announced: true }), alert('b', { since: later(110) }), alert('c', { since: later(120) }))).toEqual([
      true,
      true,
      true,
    ])
    expect(storms(alert('a', { announced: true }), alert('b', { since: later(200) }), alert('c', { since: later(200) }))).toEqual([
      false,
      false,
      false,
    ])
    // All of them are known already, each by itself.
    expect(storms(...['a', 'b', 'c'].map((name) => alert(name, { announced: true })))).toEqual([false, false, false])
  })

  it('is not what the database or another cause explains, what is quiet, and what is well again', () => {
    for (const one of [{ remote: false }, { told: false }, { failing: false }, { source: 'rule' }, { status: 'pending' }] as const)
      expect(storms(alert('a'), alert('b'), alert('c', one))).toEqual([false, false, false])
  })

  it('takes in what begins a little later, and whatever else is wrong with the same', () => {
    const members = ['a', 'b', 'c'].map((name) => alert(name, { announced: true, storm }))
    expect(storms(...members, alert('d', { since: later(60) }), alert('e', { since: later(300) }))).toEqual([true, true, true, true, false])
    expect(storms(...members, alert('a', { source: 'rule', since: later(3_600) }), alert('f', { source: 'rule' }))).toEqual([
      ...[true, true, true],
      ...[true, false],
    ])
    // One that comes and goes with it.
    expect(storms(...members, alert('d', { since: later(900), storm }))).toEqual([true, true, true, true])
  })

  it('is over when few of many are left: what still fails is told for itself, what is well again needs no more', () => {
    const well = ['a', 'b', 'c'].map((name) => alert(name, { status: 'ok', since: null, storm }))
    const left = alert('x', { announced: true, storm })
    const recovering = alert('y', { announced: true, failing: false, storm })
    expect(storms(...well, left, recovering).slice(3)).toEqual([false, true])
    // What is silenced waits in it.
    expect(storms(...well, { ...left, told: false }, recovering).slice(3)).toEqual([true, true])
    // Half of them are left, or as many as make a storm.
    expect(storms(...well.slice(0, 2), left, recovering).slice(2)).toEqual([true, true])
    expect(storms(...well, ...well, left, recovering, alert('z', { storm })).slice(6)).toEqual([true, true, true])
  })

  it('is called by its parts, the most severe first', () => {
    expect(stormTitle(['b', 'a', 'b', 'c'].map((component) => ({ component })))).toBe('3 dependencies began to fail together: b, a, c')
    expect(stormTitle([...'abcdefgh'].map((component) => ({ component })))).toBe(
      '8 dependencies began to fail together: a, b, c, d, e, f and 2 more',
    )
    expect(stormTitle([...'abcdefg'].map((component) => ({ component })))).toContain('a, b, c, d, e, f, g')
  })

  it('leaves nothing out: whoever is in none is told for itself, whatever came before', () => {
    const candidate = fc.record({
      component: fc.constantFrom(...'abcdefgh'),
      source: fc.constantFrom('check' as const, 'check' as const, 'rule' as const),
      status: fc.constantFrom('ok' as const, 'pending' as const, 'firing' as const, 'firing' as const),
      since: fc.integer({ min: 0, max: 600 }).map(later),
      ...{ failing: fc.boolean(), told: fc.boolean(), announced: fc.boolean(), remote: fc.boolean() },
      storm: fc.constantFrom(null, storm, later(300).toISOString()),
    })
    fc.assert(
      fc.property(fc.array(candidate, { maxLength: 12 }), (given) => {
        const found = stormsOf(given, settings)
        for (const [index, one] of found.entries()) {
          const before = given[index] as StormCandidate
          if (one === null || before.source !== 'check' || before.storm === one) continue
          // It is new in it: nothing else explains it, and it began with the others.
          expect(before).toMatchObject({ status: 'firing', failing: true, told: true, remote: true })
          expect(Math.abs((before.since ?? began).getTime() - new Date(one).getTime())).toBeLessThanOrEqual(130_000)
          const running = given.some(({ status, storm: of }) => status === 'firing' && of === one)
          expect(running || found.filter((other) => other === one).length >= settings.atLeast).toBe(true)
        }
      }),
    )
  })
})
