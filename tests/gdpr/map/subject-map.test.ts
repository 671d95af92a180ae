import { beforeAll, describe, expect, it } from 'vitest'
import { buildSubjectMap, type Catalogue, lintMap, readCatalogue, renderMermaid, renderTree } from '../../../lib/gdpr/index.ts'
import { useTestDatabase } from '../../support/database.ts'
import { makeShop } from '../shop.ts'

describe('the subject map', () => {
  const test = useTestDatabase()
  let catalogue: Catalogue
  beforeAll(async () => {
    await makeShop(test.db)
    await test.db.execute(`
      create schema auth; create table auth.users (id uuid primary key, email text, encrypted_password text);
      create table auth.sessions (id uuid primary key, user_id uuid not null references auth.users on delete cascade);
      create schema app; create table app.users (id uuid primary key references auth.users, email text);
      create table app.notes (id int primary key, owner uuid references app.users, body text);`)
    catalogue = await readCatalogue(test.db)
  })

  it('goes from the subject to what references it, and never upwards or sideways', () => {
    const map = buildSubjectMap(catalogue, { subject: { table: 'users' } })
    expect([...map.tables.keys()].sort()).toEqual([
      'crm.items',
      'crm.orders',
      'crm.returns',
      'public.chain_a',
      'public.chain_b',
      'public.comments',
      'public.events',
      'public.loose',
      'public.members',
      'public.messages',
      'public.payments',
      'public.posts',
      'public.profiles',
      'public.teams',
      'public.users',
    ])
    expect(map.tables.get('crm.returns')?.paths).toEqual([['crm.orders(user_id)', 'crm.items(tenant, no)', 'crm.returns(item_id)']])
    expect(map.tables.get('public.messages')?.edges.map(({ columns }) => columns)).toEqual([['recipient_id'], ['sender_id']])
    expect(map.tables.get('public.profiles')).toMatchObject({ person: true, edges: [{ columns: ['user_id'] }] })
    expect(map.groups.filter((group) => group.length > 1).map((group) => [...group].sort())).toEqual(
      expect.arrayContaining([['public.chain_a', 'public.chain_b']]),
    )
  })

  it("takes an app's users and the Auth user behind them for one person", () => {
    const map = buildSubjectMap(catalogue, { subject: { table: 'app.users' } })
    expect(map).toMatchObject({ root: 'auth.users', subject: 'app.users' })
    expect([...map.tables.keys()].sort()).toEqual(['app.notes', 'app.users', 'auth.sessions', 'auth.users'])
    expect(map.tables.get('auth.users')?.exportColumns).toEqual(['id', 'email'])
  })

  it('names what is not there, and the nearest that is', () => {
    const wrong = () =>
      buildSubjectMap(catalogue, {
        subject: { table: 'user', id: 'idd' },
        tables: { paymnts: {}, 'public.loose': { export: ['notes'], link: { column: 'user' } }, orders: { erase: { anonymise: ['x'] } } },
      })
    expect(wrong).toThrow(expect.objectContaining({ code: 'policy_invalid' }))
    expect(wrong).toThrow(/gdpr\.subject\.table: there is no table public\.user; did you mean "users"\?/)
    expect(wrong).toThrow(/gdpr\.tables\.paymnts: there is no table public\.paymnts; did you mean "payments"\?/)
    expect(wrong).toThrow(/gdpr\.tables\.public\.loose\.export: public\.loose has no column "notes"; did you mean "note"\?/)
    expect(wrong).toThrow(/gdpr\.tables\.orders: there is no table public\.orders; did you mean "crm\.orders"\?/)
    expect(() => buildSubjectMap(catalogue, { subject: { table: 'loose' } })).toThrow(/has no primary key; name the column/)
    expect(() =>
      buildSubjectMap(catalogue, { subject: { table: 'teams' }, tables: { newsletter: { link: { column: 'address', to: 'email' } } } }),
    ).toThrow(/set gdpr\.subject\.email/)
  })

  it('says before anybody asks what could not be done', () => {
    const findings = lintMap(catalogue, {
      subject: { table: 'users' },
      tables: {
        payments: { erase: { keep: 'tax law', until: '10 years', anonymise: ['id'] } },
        members: { erase: { anonymise: ['user_id'] } },
        teams: {},
      },
    })
    expect(findings).toContainEqual(
      expect.objectContaining({ rule: 'blocked', message: expect.stringContaining('public.members.user_id is NOT NULL') }),
    )
    expect(findings).toContainEqual(expect.objectContaining({ rule: 'unclassified-table', table: 'public.posts' }))
    expect(findings).not.toContainEqual(expect.objectContaining({ rule: 'unclassified-table', table: 'public.teams' }))
    expect(findings).toContainEqual(expect.objectContaining({ rule: 'personal-column', table: 'app.users', column: 'email' }))
  })

  it('prints as a tree and as a flow chart', () => {
    const map = buildSubjectMap(catalogue, {
      subject: { table: 'users' },
      tables: { payments: { erase: { keep: 'tax law', until: '10 years' } } },
    })
    const tree = renderTree(map)
    expect(tree).toContain('public.users  [export; delete]')
    expect(tree).toMatch(/crm\.orders {2}by user_id[^\n]*\n[│ ]+└─ crm\.items {2}by tenant, no[^\n]*\n[│ ]+└─ crm\.returns/)
    expect(tree).toContain('keep 10 years (tax law)')
    for (const key of map.tables.keys())
      expect(tree.split('\n').filter((line) => line.includes(`─ ${key} `) || line.startsWith(`${key} `))).toHaveLength(1)
    expect(renderMermaid(map)).toMatch(/^flowchart LR\n {2}t0\["/)
  })
})
