import { describe, expect, test } from 'vitest'
import { type OrderInput, orderTables, unmatched } from '../../../lib/backup/restore/order.ts'

const mib = 1_048_576
const table = (name: string, bytes = 1000) => {
  const [schema = '', rest = ''] = name.split('.')
  return { key: name, schema, name: rest, bytes }
}
const order = (input: Partial<OrderInput>) =>
  orderTables({ tables: [], families: [], foreignKeys: [], groups: null, subject: null, ...input }).map(({ name, tables }) => [
    name,
    ...tables,
  ])

describe('the order of the policy', () => {
  const tables = ['auth.users', 'public.preferences', 'public.tasks', 'public.notes', 'analytics.events', 'analytics.funnels'].map((name) =>
    table(name),
  )
  const groups = {
    authentication: ['auth.*'],
    preferences: ['preferences'],
    'active data': ['public.tasks'],
    'everything else': ['*'],
    analytics: ['analytics.*'],
  }

  test('puts a table into the group that names it most exactly', () => {
    expect(order({ tables, groups: { ...groups, 'active data': ['public.tasks', 'analytics.funnels'] } })).toEqual([
      ['authentication', 'auth.users'],
      ['preferences', 'public.preferences'],
      ['active data', 'public.tasks', 'analytics.funnels'],
      ['everything else', 'public.notes'],
      ['analytics', 'analytics.events'],
    ])
  })

  test('is followed by what no group names', () => {
    expect(order({ tables, groups: { first: ['tasks'] } }).map(([name]) => name)).toEqual(['first', 'the rest'])
  })

  test('brings what a table refers to no later than the table, and says so', () => {
    const foreignKeys = [
      { child: 'public.preferences', parent: 'public.notes' },
      { child: 'public.notes', parent: 'analytics.events' },
    ]
    const found = orderTables({ tables, families: [], foreignKeys, groups, subject: null })
    expect(found[1]).toEqual({
      name: 'preferences',
      tables: ['public.preferences', 'public.notes', 'analytics.events'],
      moved: [
        { table: 'public.notes', because: 'public.preferences' },
        { table: 'analytics.events', because: 'public.notes' },
      ],
    })
  })

  test('keeps partitions with their table, in the earliest of their groups', () => {
    const partitioned = [...tables, table('logs.all'), table('logs.old'), table('logs.new')]
    const families = [
      ['logs.old', 'logs.all'],
      ['logs.new', 'logs.all'],
    ] as const
    const found = order({ tables: partitioned, families, groups: { recent: ['logs.new'], ...groups } })
    expect(found[0]).toEqual(['recent', 'logs.all', 'logs.old', 'logs.new'])
  })

  test('does not change that the people come first', () => {
    expect(order({ tables: [table('public.people'), table('public.a')], groups: { first: ['a'] }, subject: 'people' })).toEqual([
      ['first', 'public.people', 'public.a'],
    ])
  })

  test('knows which patterns mean nothing', () => {
    expect(unmatched({ one: ['tasks', 'auth.*', '*', 'task', 'other.*'] }, tables)).toEqual(['task', 'other.*'])
  })
})

test('by default sign-in comes first, then what others refer to, and last what is large and nothing refers to', () => {
  const tables = [
    table('public.events', 900 * mib),
    table('public.invoices', 90 * mib),
    table('public.plans', mib),
    table('public.notes', 10 * mib),
    table('auth.users', 20 * mib),
    table('auth.identities', mib),
  ]
  const foreignKeys = [
    { child: 'public.invoices', parent: 'public.plans' },
    { child: 'public.notes', parent: 'auth.users' },
    { child: 'public.events', parent: 'public.events' },
  ]
  expect(order({ tables, foreignKeys })).toEqual([
    ['authentication', 'auth.users', 'auth.identities'],
    ['core', 'public.plans'],
    ['the rest', 'public.invoices', 'public.notes'],
    ['largest', 'public.events'],
  ])
})
