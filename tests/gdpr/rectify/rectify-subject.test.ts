import { beforeEach, describe, expect, it } from 'vitest'
import { defineConfig } from '../../../lib/config/index.ts'
import { rectifySubject } from '../../../lib/gdpr/index.ts'
import type { Context } from '../../../lib/platform/context.ts'
import { logLines, testContext } from '../../support/context.ts'
import { useTestDatabase } from '../../support/database.ts'

const test = useTestDatabase()
let ctx: Context

beforeEach(async () => {
  await test.db.execute(`
    truncate caretaker.gdpr_requests, caretaker.outbox cascade;
    drop schema if exists app cascade;
    create schema app;
    create table app.people (id int primary key, email text unique, name text not null, nick varchar(5), born date, "wan""ts; mail" boolean);
    create table app.addresses (id uuid primary key, person int references app.people, city text check (city <> ''));
    insert into app.people (id, email, name, born, "wan""ts; mail") values (1, 'ada@example.org', 'Ida', '1815-12-11', true), (2, 'bob@example.org', 'Bob', null, true);
    insert into app.addresses values
      ('00000000-0000-0000-0000-000000000001', 1, 'Pariss'), ('00000000-0000-0000-0000-000000000002', 1, 'Rome'),
      ('00000000-0000-0000-0000-000000000003', 2, 'Oslo')`)
  ctx = testContext(test.db, {
    actor: { type: 'operator', id: 'someone', role: 'support' },
    config: defineConfig({
      app: { name: 'App' },
      gdpr: {
        subject: { table: 'app.people' },
        tables: {
          'app.people': { rectify: ['name', 'nick', 'born', 'email', 'wan"ts; mail'] },
          'app.addresses': { rectify: ['city'] },
        },
        processors: [{ name: 'crm', manual: 'write to them' }],
      },
    }),
  })
})

const people = () => test.db.query('select id, name, born::text, email from app.people order by id')

describe('a rectification', () => {
  it('changes what is named and nothing else, and tells who else holds it', async () => {
    const done = await rectifySubject(ctx, {
      subject: 'ada@example.org',
      corrections: [
        { column: 'app.people.name', value: 'Ada' },
        { column: 'app.people.born', value: '1815-12-10' },
        { column: 'app.people.wan"ts; mail', value: false },
        { column: 'app.addresses.city', value: 'Paris', row: '00000000-0000-0000-0000-000000000001' },
      ],
    })
    expect(done).toMatchObject({ recipients: ['crm'], request: { kind: 'rectify', state: 'done' } })
    expect(await people()).toEqual([
      { id: 1, name: 'Ada', born: '1815-12-10', email: 'ada@example.org' },
      { id: 2, name: 'Bob', born: null, email: 'bob@example.org' },
    ])
    expect(await test.db.query('select city from app.addresses order by id')).toEqual([
      { city: 'Paris' },
      { city: 'Rome' },
      { city: 'Oslo' },
    ])
    const [event] = await test.db.query<{ payload: unknown }>(`select payload from caretaker.outbox where topic = 'gdpr.rectified'`)
    expect(event?.payload).toMatchObject({ recipients: ['crm'], columns: expect.arrayContaining(['app.people.name']) })
  })

  it('leaves old and new value in the audit trail as hashes only a key holder can make', async () => {
    const once = async (value: string) => {
      await rectifySubject(ctx, { subject: '1', corrections: [{ column: 'app.people.name', value }] })
      const [row] = await test.db.query<{ detail: { changes: { from: string; to: string }[] } }>(
        'select detail from caretaker.audit order by seq desc limit 1',
      )
      return row?.detail.changes[0]
    }
    const [first, second] = [await once('Ada'), await once('Ida')]
    expect(second).toEqual({ column: 'app.people.name', from: first?.to, to: first?.from })
    const [written] = await test.db.query<{ text: string }>(
      `select (select string_agg(a::text, '') from caretaker.audit a) || (select string_agg(r::text, '') from caretaker.gdpr_requests r)
         || (select string_agg(o::text, '') from caretaker.outbox o) as text`,
    )
    expect(written?.text + logLines(ctx).join('')).not.toMatch(/Ida|"Ada"|ada@/)
  })

  it.each([
    [{ column: 'app.people.id', value: 7 }, 'invalid_input'],
    [{ column: 'app.people.nick', value: 'Countess' }, 'invalid_input'],
    [{ column: 'app.people.name', value: 'A\0da' }, 'invalid_input'],
    [{ column: 'app.addresses.city', value: 'Paris', row: '\0' }, 'invalid_input'],
    [{ column: 'app.people.nme', value: 'x' }, 'invalid_input'],
    [{ column: "app.people.name = 'x' --", value: 'x' }, 'invalid_input'],
    [{ column: 'app.people.born', value: 'yesterday or so' }, 'invalid_input'],
    [{ column: 'app.people.name', value: null }, 'invalid_input'],
    [{ column: 'app.people.email', value: 'bob@example.org' }, 'invalid_input'],
    [{ column: 'app.addresses.city', value: 'Paris' }, 'conflict'],
    [{ column: 'app.addresses.city', value: '', row: '00000000-0000-0000-0000-000000000001' }, 'invalid_input'],
    [{ column: 'app.addresses.city', value: 'Mine', row: '00000000-0000-0000-0000-000000000003' }, 'not_found'],
    [{ column: 'app.addresses.city', value: 'Mine', row: "' or true --" }, 'not_found'],
  ])('refuses %j, and undoes what it had corrected before', async (correction, code) => {
    const before = [await people(), await test.db.query('select * from app.addresses order by id')]
    const error = await rectifySubject(ctx, {
      subject: '1',
      corrections: [{ column: 'app.people.name', value: 'Ada' }, correction],
    }).catch((thrown: unknown) => thrown)
    expect(error).toMatchObject({ code })
    expect((error as Error).message).not.toMatch(/bob@|yesterday/)
    expect([await people(), await test.db.query('select * from app.addresses order by id')]).toEqual(before)
    expect(await test.db.query('select from caretaker.gdpr_requests')).toEqual([])
  })

  it.each([
    ['app.people.email', 'forbidden'],
    ['app.addresses.city', 'forbidden'],
    ['app.people.name', undefined],
  ])('of %s, asked by the person: %s', async (column, code) => {
    const person = '00000000-0000-4000-8000-00000000000a'
    await test.db.execute(`
      create schema if not exists auth;
      create table if not exists auth.users (id uuid primary key, deleted_at timestamptz);
      insert into auth.users values ('${person}') on conflict do nothing;
      alter table app.people add column auth text;
      update app.people set auth = '${person}' where id = 1;
      delete from app.addresses where city = 'Rome'`)
    const config = defineConfig({
      app: { name: 'App' },
      gdpr: {
        subject: { table: 'app.people', id: 'auth' },
        tables: {
          'app.people': { rectify: ['name', 'email'] },
          'app.addresses': { link: { column: 'city', to: 'email' }, rectify: ['city'] },
        },
      },
    })
    const asked = (actor: Context['actor']) =>
      rectifySubject({ ...ctx, config, actor }, { subject: person, corrections: [{ column, value: 'new@example.org' }] }).then(
        () => undefined,
        ({ code: found }: { code: string }) => found,
      )
    expect(await asked({ type: 'subject', id: person })).toBe(code)
  })

  it('of somebody who is not there is refused', async () => {
    await expect(rectifySubject(ctx, { subject: '3', corrections: [{ column: 'app.people.name', value: 'x' }] })).rejects.toMatchObject({
      code: 'subject_not_found',
    })
  })
})
