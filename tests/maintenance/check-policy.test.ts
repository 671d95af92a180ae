import { beforeAll, describe, expect, it } from 'vitest'
import { defineConfig, type PolicyInput } from '../../lib/config/index.ts'
import { checkPolicy } from '../../lib/maintenance/index.ts'
import { testContext } from '../support/context.ts'
import { useTestDatabase } from '../support/database.ts'

describe('checkPolicy', () => {
  // A database that Caretaker has never seen.
  const test = useTestDatabase({ template: 'template0' })
  const check = (rest: Omit<PolicyInput, 'app'>) =>
    checkPolicy(testContext(test.db, { config: defineConfig({ app: { name: 'Test' }, ...rest }) }))
  const rule = (change: Record<string, unknown>) => check({ retention: [{ table: 'session_logs', action: 'purge', ...change }] })

  beforeAll(async () => {
    await test.db.execute(
      'create table session_logs (id bigint primary key, user_id uuid, created_at timestamptz not null, epoch bigint, comments text, done boolean)',
    )
    await test.db.execute('create index idx_session_logs_user_id on session_logs (user_id)')
    await test.db.execute('create table session_logs_archive (like session_logs)')
    await test.db.execute('create materialized view daily_metrics as select count(*) from session_logs')
    await test.db.execute('create view recent as select * from session_logs')
    await test.db.execute('create schema app')
    await test.db.execute('create table app.users (id uuid primary key, email text)')
  })

  it('finds nothing in a policy that fits', async () => {
    expect(
      await check({
        maintenance: { vacuum: ['session_logs', 'app.users'], reindex: ['idx_session_logs_user_id', 'session_logs_pkey'] },
        retention: [
          {
            table: 'session_logs',
            column: 'created_at',
            olderThan: '30 days',
            where: `user_id is not null -- known`,
            action: { archiveTo: 'session_logs_archive' },
          },
          {
            name: 'comments',
            table: 'session_logs',
            where: 'created_at < now() - make_interval(days => 3)',
            action: { anonymise: { comments: null } },
            mark: 'done',
          },
        ],
        jobs: {
          nightly: {
            steps: [
              { retention: ['session_logs', 'comments'] },
              { sql: 'delete from session_logs where done' },
              { analyze: ['app.users'] },
            ],
          },
        },
        gdpr: {
          subject: { table: 'app.users', id: 'id', email: 'email' },
          tables: { session_logs: { link: { column: 'user_id' }, erase: { anonymise: ['comments'] } } },
        },
      }),
    ).toEqual([])
  })

  it('names path, what was found, what was expected and the nearest right name', async () => {
    const issues = await check({
      maintenance: {
        vacuum: ['sesion_logs', 'recent'],
        reindex: ['idx_session_logs_userid', 'session_logs'],
        refresh: ['daily_metrics', 'dayly_metrics'],
      },
      retention: [{ table: 'session_log', column: 'created_at', olderThan: '30 days', action: 'purge' }],
      jobs: {
        nightly: {
          steps: [
            { retention: ['session_logs'] },
            { vacuum: ['users'] },
            { sql: 'delete from session_logs where created < now()' },
            { sql: 'vacuum session_logs' },
          ],
        },
      },
      gdpr: {
        subject: { table: 'app.users', email: 'mail' },
        tables: { session_logs: { link: { column: 'userid' }, erase: { anonymise: ['comment'] } } },
      },
    })
    expect(issues.map(({ path, message, severity }) => `${severity} ${path}: ${message}`)).toEqual([
      'error maintenance.vacuum.0: found "sesion_logs", expected a table or materialised view that exists; did you mean "session_logs"?',
      'error maintenance.vacuum.1: found "recent", which is a view; expected a table or materialised view',
      'error maintenance.reindex.0: found "idx_session_logs_userid", expected an index that exists; did you mean "idx_session_logs_user_id"?',
      'error maintenance.reindex.1: found "session_logs", which is a table; expected an index',
      'warning maintenance.refresh.0: readers of daily_metrics wait while it is refreshed, because it has no unique index on plain columns without a condition: create unique index on "public"."daily_metrics" (the columns that tell its rows apart)',
      'error maintenance.refresh.1: found "dayly_metrics", expected a materialised view that exists; did you mean "daily_metrics"?',
      'error retention.0.table: found "session_log", expected a table that exists; did you mean "session_logs"?',
      'error jobs.nightly.steps.0.retention.0: found "session_logs", expected the name (or the table) of a retention rule; did you mean "session_log"?',
      'error jobs.nightly.steps.1.vacuum.0: found "users", expected a table or materialised view that exists; did you mean "app.users"?',
      'error jobs.nightly.steps.2.sql: PostgreSQL refuses the statement: column "created" does not exist',
      'error jobs.nightly.steps.3.sql: found "vacuum session_logs…", which PostgreSQL refuses inside a transaction, where statements of the policy run; use the step { vacuum: [TABLE] }',
      'error gdpr.subject.email: found "mail", expected a column of app.users; did you mean "email"?',
      'error gdpr.tables.session_logs.link.column: found "userid", expected a column of session_logs; did you mean "user_id"?',
      'error gdpr.tables.session_logs.erase.anonymise.comment: found "comment", expected a column of session_logs; did you mean "comments"?',
    ])
  })

  it.each([
    [{ column: 'create_at', olderThan: '30 days' }, 'retention.0.column', 'did you mean "created_at"?'],
    [{ column: 'epoch', olderThan: '30 days' }, 'retention.0.column', 'of type int8, expected timestamptz, timestamp or date'],
    [{ column: 'created_at', olderThan: '3 hours' }, 'retention.0.olderThan', 'expected at least "1 day"'],
    [{ column: 'created_at' }, 'retention.0', 'expected "column" with "olderThan"'],
    [{ olderThan: '30 days' }, 'retention.0.column', 'expected the column'],
    [{ where: 'true' }, 'retention.0.where', 'every row of session_logs satisfies'],
    [{ where: 'id = id or 1 = 1' }, 'retention.0.where', 'every row of session_logs satisfies'],
    [{ where: 'done; drop table session_logs' }, 'retention.0.where', 'holds a semicolon'],
    [{ where: 'done) or (true' }, 'retention.0.where', 'unbalanced parentheses'],
    [{ where: 'done /* or' }, 'retention.0.where', 'unterminated comment'],
    [{ where: 'creatd_at < now()' }, 'retention.0.where', 'did you mean "created_at"?'],
    [{ where: 'count(*) > 1' }, 'retention.0.where', 'aggregate functions are not allowed in WHERE'],
    [{ where: 'id' }, 'retention.0.where', 'must be type boolean'],
    [{ where: 'id = $1' }, 'retention.0.where', 'holds the parameter $1'],
    [{ where: 'done', mark: 'done' }, 'retention.0.mark', 'expected none'],
    [{ where: 'done', action: { archiveTo: 'session_logs' } }, 'retention.0.action.archiveTo', 'found the table itself'],
    [{ where: 'done', action: { anonymise: { id: null } } }, 'retention.0.action.anonymise.id', 'is "not null"'],
    [{ where: 'done', action: { anonymise: { comments: '' } }, mark: 'epoch' }, 'retention.0.mark', 'expected a boolean column'],
  ])('refuses the rule %j', async (change, path, message) => {
    expect(await rule(change)).toContainEqual({ path, message: expect.stringContaining(message), severity: 'error' })
  })
})
