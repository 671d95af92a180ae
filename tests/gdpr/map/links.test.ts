import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { beforeEach, describe, expect, it } from 'vitest'
import { defineConfig } from '../../../lib/config/index.ts'
import { eraseSubject, exportSubject, planSubjectErasure } from '../../../lib/gdpr/index.ts'
import type { Context } from '../../../lib/platform/context.ts'
import { testContext } from '../../support/context.ts'
import { useTestDatabase } from '../../support/database.ts'
import { unzip } from '../export/unzip.ts'

const test = useTestDatabase()
type Tables = NonNullable<NonNullable<Parameters<typeof defineConfig>[0]['gdpr']>['tables']>

beforeEach(() =>
  test.db.execute(`
    truncate caretaker.gdpr_requests cascade;
    drop schema if exists app cascade;
    create schema app;
    create table app.people (id int primary key, email text, phone text);
    create table app.calls (id int primary key, number text not null);
    create table app.chats (id int primary key, members int[], title text);
    create table app.events (id int primary key, data jsonb, raw json);
    insert into app.people values (1, 'Ada@example.org', '+491'), (2, 'bob@example.org', '+492'), (11, 'eve@example.org', '+4911');
    insert into app.calls values (1, '+491'), (2, '+4911');
    insert into app.chats values (1, '{1,2}', 'both'), (2, '{2,11}', 'others'), (3, null, 'none'), (4, '{1,1}', 'herself'), (5, '{}', 'nobody');
    insert into app.events values
      (1, '{"user": {"id": 1}, "cc": ["ada@example.org", "bob@example.org"]}', '[1, 2]'),
      (2, '{"user": {"id": 11}, "cc": ["eve@example.org"]}', '[11]'),
      (3, '{"user": "1", "cc": "ada@example.org"}', '{"not": "a list"}'),
      (4, null, null)`),
)

const context = (tables: Tables): Context =>
  testContext(test.db, { config: defineConfig({ app: { name: 'App' }, gdpr: { subject: { table: 'app.people' }, tables } }) })

async function exported(ctx: Context, table: string): Promise<{ id: number }[]> {
  const folder = await mkdtemp(join(tmpdir(), 'gdpr-links-'))
  try {
    await exportSubject(ctx, { subject: '1', out: join(folder, 'out.zip') })
    return JSON.parse((await unzip(await readFile(join(folder, 'out.zip')))).get(`data/${table}.json`)?.toString() ?? '[]') as {
      id: number
    }[]
  } finally {
    await rm(folder, { recursive: true })
  }
}

const ids = (rows: { id: number }[]) => rows.map(({ id }) => id)

describe('a soft link', () => {
  it('joins nobody by what both have left blank', async () => {
    await test.db.execute(`
      update app.people set phone = '' where id = 1;
      insert into app.calls values (3, ''), (4, ' ')`)
    const ctx = context({ 'app.calls': { link: { column: 'number', to: 'phone' } } })
    expect(await exported(ctx, 'app.calls')).toEqual([])
    await eraseSubject(ctx, { subject: '1' })
    expect(await test.db.query('select from app.calls')).toHaveLength(4)
  })

  it.each([
    ['app.calls', { column: 'number', to: 'phone' }, [1]],
    ['app.chats', { column: 'members' }, [1, 4]],
    ['app.events', { column: 'data', path: 'user.id' }, [1]],
    ['app.events', { column: 'data', path: 'cc[]', to: 'email' }, [1]],
    ['app.events', { column: 'raw', path: '[]' }, [1]],
    [
      'app.events',
      [
        { column: 'data', path: 'user' },
        { column: 'data', path: 'cc[]', to: 'email' },
      ],
      [1, 3],
    ],
  ] as [string, Tables[string]['link'], number[]][])(
    'of %s by %j finds %j, in the export and in the plan',
    async (table, link, expected) => {
      const ctx = context({ [table]: { link } })
      expect(ids(await exported(ctx, table))).toEqual(expected)
      const plan = await planSubjectErasure(ctx, { subject: '1' })
      expect(plan.status === 'planned' && plan.tables.find((one) => one.table === table)?.rows).toBe(expected.length)
    },
  )

  it('that several people share is emptied of the person, and the row stays', async () => {
    await eraseSubject(
      context({
        'app.chats': { link: { column: 'members' } },
        'app.events': {
          link: [
            { column: 'data', path: 'cc[]', to: 'email' },
            { column: 'raw', path: '[]' },
          ],
        },
      }),
      { subject: '1' },
    )
    expect(await test.db.query('select id, members from app.chats order by id')).toEqual([
      { id: 1, members: [2] },
      { id: 2, members: [2, 11] },
      { id: 3, members: null },
      { id: 4, members: [] },
      { id: 5, members: [] },
    ])
    expect(await test.db.query('select id, data, raw from app.events order by id')).toEqual([
      { id: 1, data: { user: { id: 1 }, cc: ['bob@example.org'] }, raw: [2] },
      { id: 2, data: { user: { id: 11 }, cc: ['eve@example.org'] }, raw: [11] },
      { id: 3, data: { user: '1', cc: 'ada@example.org' }, raw: { not: 'a list' } },
      { id: 4, data: null, raw: null },
    ])
  })

  it('to one person takes the row with it, unless the row is to stay: then the place is emptied', async () => {
    await eraseSubject(
      context({
        'app.events': { link: { column: 'data', path: 'user.id' }, erase: { anonymise: [] } },
        'app.calls': { link: { column: 'number', to: 'phone' } },
      }),
      {
        subject: '1',
      },
    )
    expect(await test.db.query('select data from app.events where id = 1')).toEqual([
      { data: { user: {}, cc: ['ada@example.org', 'bob@example.org'] } },
    ])
    expect(await test.db.query('select id from app.calls')).toEqual([{ id: 2 }])
    await eraseSubject(context({ 'app.events': { link: { column: 'data', path: 'user.id' } } }), { subject: '11' })
    expect(await test.db.query('select id from app.events order by id')).toEqual([{ id: 1 }, { id: 3 }, { id: 4 }])
  })

  it.each([
    [{ 'app.chats': { link: { column: 'members', path: 'x' } } }, /path leads into json/],
    [{ 'app.chats': { link: { column: 'member' } } }, /did you mean "members"/],
  ] as [Tables, RegExp][])('that does not fit is refused: %j', async (tables, message) => {
    await expect(planSubjectErasure(context(tables), { subject: '1' })).rejects.toMatchObject({
      code: 'policy_invalid',
      detail: expect.stringMatching(message),
    })
  })
})
