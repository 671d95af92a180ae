import { beforeEach, describe, expect, it } from 'vitest'
import { defineConfig } from '../../../lib/config/index.ts'
import { lintDatabase, lintJob } from '../../../lib/gdpr/index.ts'
import { resolveCheck } from '../../../lib/health/check.ts'
import { runCheck } from '../../../lib/health/run-check.ts'
import type { Context } from '../../../lib/platform/context.ts'
import { testContext } from '../../support/context.ts'
import { useTestDatabase } from '../../support/database.ts'

const test = useTestDatabase()
const check = (ctx: Context, name: string) => runCheck(ctx, resolveCheck(name, {}))
const context = (gdpr: object = {}) =>
  testContext(test.db, { config: defineConfig({ app: { name: 'App' }, gdpr: { subject: { table: 'app.people' }, ...gdpr } }) })

beforeEach(() =>
  test.db.execute(`
    drop schema if exists app cascade;
    create schema app;
    create table app.people (id int primary key, email text);
    create table app.things (id int, note text, data jsonb, code text, amount text, host text, size text);
    insert into app.things
    select n, case when n = 150 then 'ask ada@example.org' else 'nothing' end, '{"a":1}', '4111111111111112', 'DE00370400440532013000', '300.1.1.1', '+1'
    from generate_series(1, 150) n`),
)

describe('the look at values', () => {
  it.each([
    ['note', null, 'e-mail addresses'],
    ['data', `'{"contact":{"mail":"ada@example.org"}}'`, 'e-mail addresses'],
    ['code', `'4111 1111 1111 1111'`, 'card numbers'],
    ['amount', `'DE89 3704 0044 0532 0130 00'`, 'IBANs'],
    ['host', `'192.0.2.17'`, 'IP addresses'],
    ['size', `'+49 151 12345678'`, 'telephone numbers'],
  ])('finds in %s, set to %s, %s', async (column, value, what) => {
    await test.db.execute(`update app.things set note = 'nothing'`)
    expect((await lintDatabase(context())).findings).toEqual([])
    await test.db.execute(
      value === null ? `update app.things set note = 'ask ada@example.org' where id = 150` : `update app.things set ${column} = ${value}`,
    )
    const { findings } = await lintDatabase(context())
    expect(findings).toMatchObject([{ rule: 'personal-value', table: 'app.things', column, message: expect.stringContaining(what) }])
    expect(JSON.stringify(findings)).not.toMatch(/ada@|4111|DE89|192\.0|151/)
  })

  it('says nothing of what the policy describes', async () => {
    expect((await lintDatabase(context({ tables: { 'app.things': { link: { column: 'note', to: 'email' } } } }))).findings).toEqual([])
  })
})

describe('the review', () => {
  it('is out of date when a column, a type or a key changes, and not when rows do', async () => {
    await test.db.execute('truncate app.things')
    const { fingerprint } = await lintDatabase(context())
    const reviewed = context({ reviewed: fingerprint })
    await test.db.execute(`insert into app.people values (9, 'x'); create index on app.things (id)`)
    expect((await lintDatabase(reviewed)).findings).toEqual([])
    for (const change of ['alter table app.things add column more int', 'alter table app.things alter column id type bigint']) {
      await test.db.execute(change)
      expect((await lintDatabase(reviewed)).findings.map(({ rule }) => rule)).toEqual(['drift'])
      expect((await lintDatabase(context({ reviewed: (await lintDatabase(context())).fingerprint }))).findings).toEqual([])
    }
  })

  it('is a job whose findings the health check shows', async () => {
    const ctx = context()
    expect(await check(ctx, 'gdpr')).toMatchObject({ status: 'healthy' })
    const outcome = await lintJob(ctx)
    expect(outcome).toMatchObject({ status: 'done', result: { findings: 1, rules: { 'personal-value': 1 } } })
    await test.db.execute(
      `insert into caretaker.runs (job, slot, state, actor, result) values ('gdpr-lint', now(), 'done', '{}', $1::jsonb)`,
      [JSON.stringify(outcome.status === 'done' ? outcome.result : null)],
    )
    expect(await check(ctx, 'gdpr')).toMatchObject({ status: 'unhealthy', cause: 'gdpr_undescribed', measures: { lintFindings: 1 } })
    await test.db.execute(`insert into caretaker.gdpr_requests (kind, state, subject_hash, requested_by, received_at, due_at)
      values ('export', 'verified', 'x', '{}', now() - interval '40 days', now() - interval '9 days')`)
    expect(await check(ctx, 'gdpr')).toMatchObject({ status: 'unhealthy', cause: 'gdpr_overdue', measures: { overdue: 1, open: 1 } })
    expect(await test.db.query(`select topic from caretaker.outbox where topic = 'gdpr.lint_failed'`)).toHaveLength(1)
  })
})
