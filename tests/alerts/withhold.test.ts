import { describe, expect, it } from 'vitest'
import { matchesAll, parseMatchers, showMatchers } from '../../lib/alerts/matchers.ts'
import { type Standing, type Surroundings, withhold } from '../../lib/alerts/withhold.ts'
import fc from '../support/fast-check.ts'

const alert = (component: string, more: Partial<Standing> = {}): Standing => ({
  ...{ rule: `check-${component}`, component, severity: 'P2', labels: {}, source: 'check', status: 'firing', dependsOn: [] },
  ...more,
})
const around = (more: Partial<Surroundings> = {}): Surroundings => ({
  tree: new Map([
    ['auth', ['supabase', 'network']],
    ['supabase', ['network']],
  ]),
  silences: [],
  maintenance: [],
  ...more,
})
const roots = (alerts: Standing[], surroundings = around()) => withhold(alerts, surroundings).map(({ withheld, root }) => root ?? withheld)

describe('what explains an alert', () => {
  it('is the farthest of the failing components it stands on', () => {
    expect(roots([alert('auth'), alert('supabase'), alert('network')])).toEqual(['network', 'network', null])
    expect(roots([alert('auth'), alert('supabase')])).toEqual(['supabase', null])
    expect(roots([alert('auth'), alert('network', { status: 'pending' })])).toEqual(['network', null])
    expect(roots([alert('auth'), alert('network', { status: 'ok' })])).toEqual([null, null])
  })

  it('is no figure and no event, but a component that fails as a whole', () => {
    expect(roots([alert('auth'), alert('network', { source: 'rule' })])).toEqual([null, null])
    expect(roots([alert('errors', { source: 'rule', dependsOn: ['auth'] }), alert('network')])).toEqual(['network', null])
  })

  it('is the first by name in a circle, so that somebody is told', () => {
    const tree = new Map([
      ['a', ['b']],
      ['b', ['a']],
      ['c', ['b', 'a']],
    ])
    expect(roots([alert('a'), alert('b'), alert('c')], around({ tree }))).toEqual([null, 'a', 'a'])
    expect(roots([alert('b'), alert('c')], around({ tree }))).toEqual([null, 'b'])
  })

  it('is always told itself, however components stand on each other', () => {
    const names = ['a', 'b', 'c', 'd', 'e'] as const
    const graph = fc.array(fc.tuple(fc.constantFrom(...names), fc.constantFrom(...names)), { maxLength: 9 })
    fc.assert(
      fc.property(graph, fc.subarray([...names], { minLength: 1 }), (edges, down) => {
        const all = (name: string): string[] => {
          const found = new Set<string>()
          for (let level = [name]; level.length > 0; ) {
            level = edges.flatMap(([from, to]) => (level.includes(from) && to !== name && !found.has(to) ? [to] : []))
            for (const one of level) found.add(one)
          }
          return [...found]
        }
        const verdicts = withhold(
          down.map((name) => alert(name)),
          around({ tree: new Map(names.map((name) => [name, all(name)])) }),
        )
        for (const [index, { root }] of verdicts.entries()) {
          const name = down[index] as string
          if (root !== null) expect(verdicts[down.indexOf(root as (typeof names)[number])]).toMatchObject({ withheld: null, root: null })
          // Told itself: whatever fails above it stands on it, too.
          else for (const other of all(name)) if (down.some((one) => one === other)) expect(all(other)).toContain(name)
        }
      }),
      { numRuns: 2_000 },
    )
  })
})

describe('a silence', () => {
  it('holds for what all of its matchers fit', () => {
    const one = alert('stripe', { labels: { region: 'eu' } })
    const fits = (text: string) => matchesAll(parseMatchers(text), one)
    for (const text of ['stripe', 'check-stripe', 'component=stripe', 'rule=check-*', '*', 'severity=P2,region=e*', 'component=s*r*e'])
      expect([text, fits(text)]).toEqual([text, true])
    for (const text of ['strip', 'component=check-stripe', 'severity=P1', 'stripe,severity=P1', 'zone=eu', 'component=s*x*e', 'region=*us'])
      expect([text, fits(text)]).toEqual([text, false])
    expect(showMatchers(parseMatchers(' stripe , severity=P2'))).toBe('stripe,severity=P2')
  })

  it('reads a star as any characters, as a regular expression would', () => {
    const text = fc.string({ unit: fc.constantFrom('a', 'b', '*', '.', '-'), minLength: 1, maxLength: 8 })
    fc.assert(
      fc.property(text, text, (pattern, value) => {
        const oracle = new RegExp(
          `^${pattern
            .split('*')
            .map((part) => part.replaceAll(/[.-]/g, '\\$&'))
            .join('.*')}$`,
        )
        expect(matchesAll([{ key: 'component', pattern }], alert(value))).toBe(oracle.test(value))
      }),
      { numRuns: 2_000 },
    )
  })
})
