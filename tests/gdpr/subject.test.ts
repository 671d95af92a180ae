import { beforeAll, expect, it } from 'vitest'
import { defineConfig } from '../../lib/config/index.ts'
import { readSubjectMap } from '../../lib/gdpr/policy.ts'
import { findSubject } from '../../lib/gdpr/subject.ts'
import { testContext } from '../support/context.ts'
import { useTestDatabase } from '../support/database.ts'

const test = useTestDatabase()
const [ada, bob, cy] = ['1', '2', '3'].map((digit) => `${digit.repeat(8)}-1111-4111-8111-111111111111`) as [string, string, string]

beforeAll(() =>
  test.db.execute(`
    create schema auth;
    create table auth.users (id uuid primary key, email varchar(255));
    create table profiles (id uuid primary key references auth.users, email text);
    create table handles (id uuid primary key references auth.users, handle text);
    insert into auth.users values ('${ada}', 'Ada@example.org'), ('${bob}', 'bob@example.org'), ('${cy}', '');
    insert into profiles values ('${ada}', null), ('${bob}', 'ada@example.org'), ('${cy}', ' ');
    insert into handles values ('${ada}', 'ada')`),
)

async function find(table: string, named: string) {
  const config = defineConfig({ app: { name: 'App' }, gdpr: { subject: { table } } })
  const ctx = testContext(test.db, { config })
  return findSubject(ctx.db, await readSubjectMap(ctx), named)
}

it.each([
  ['profiles', ada, { id: ada, email: 'Ada@example.org' }],
  ['profiles', 'ADA@example.org', { id: ada, email: 'Ada@example.org' }],
  ['profiles', bob, { id: bob, email: 'bob@example.org' }],
  ['profiles', cy, { id: cy, email: undefined }],
  ['handles', ada, { id: ada, email: 'Ada@example.org' }],
  ['handles', 'ada@example.org', { id: ada, email: 'Ada@example.org' }],
  ['handles', bob, { id: bob, email: 'bob@example.org' }],
])('in %s, %s is whom Auth says, whatever the app has written beside', async (table, named, found) => {
  expect(await find(table, named)).toEqual(found)
})

it.each(['', '@', 'a\0@example.org', '\0', "' or true --@", '99999999-9999', 'nobody@example.org'])('%j is nobody', async (named) => {
  expect(await find('profiles', named)).toBeUndefined()
})
