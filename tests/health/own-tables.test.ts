import { beforeEach, describe, expect, it } from 'vitest'
import { resolveCheck } from '../../lib/health/check.ts'
import { runCheck } from '../../lib/health/run-check.ts'
import { openDatabase } from '../../lib/platform/db.ts'
import { useTestDatabase } from '../support/database.ts'
import { healthContext } from './support.ts'

const test = useTestDatabase()
const store = { backup: { store: 'file:///tmp/nowhere', encryption: 'none' as const }, webhooks: { stripe: {} } }
const check = (name: string, policy: object = store) => runCheck(healthContext(test.db, { policy }), resolveCheck(name, {}))

async function ran(job: string, state: string, ago: string) {
  await test.db.execute(
    `insert into caretaker.runs (job, slot, state, actor, queued_at, finished_at)
     values ($1, now() - $3::interval, $2, '{}', now() - $3::interval, case when $2 in ('done', 'failed') then now() - $3::interval end)`,
    [job, state, ago],
  )
}

beforeEach(() => test.db.execute('truncate caretaker.runs, caretaker.inbox, caretaker.watched_jobs cascade'))

describe.each([
  ['backup', 'backup', '25 hours', '27 hours'],
  ['drill', 'backup-verify', '7 days 20 hours', '8 days 1 hour'],
])('%s', (name, job, recent, old) => {
  it('is overdue, failed or fine by what ran last', async () => {
    expect(await check(name)).toMatchObject({ status: 'unhealthy', cause: `${name}_overdue` })
    await test.db.execute(
      `insert into caretaker.watched_jobs (deployment, job, schedule, since) values ('d', $1, '', now() - $2::interval)`,
      [job, recent],
    )
    expect(await check(name)).toMatchObject({ status: 'healthy' })
    await test.db.execute('update caretaker.watched_jobs set since = now() - $1::interval', [old])
    expect(await check(name)).toMatchObject({ status: 'unhealthy', cause: `${name}_overdue` })
    await ran(job, 'done', old)
    expect(await check(name)).toMatchObject({ status: 'unhealthy', cause: `${name}_overdue` })
    await ran(job, 'done', recent)
    expect(await check(name)).toMatchObject({ status: 'healthy' })
    await ran(job, 'failed', '1 hour')
    expect(await check(name)).toMatchObject({ status: 'unhealthy', cause: `${name}_failed` })
    await ran(job, 'running', '1 minute')
    expect(await check(name)).toMatchObject({ cause: `${name}_failed` })
    await ran(job, 'done', '30 seconds')
    expect(await check(name)).toMatchObject({ status: 'healthy' })
  })

  it('is not configured without a backup in the policy', async () => {
    expect(await check(name, {})).toMatchObject({ status: 'not_configured' })
  })
})

describe('jobs', () => {
  it('name what failed last and what nobody takes', async () => {
    await ran('a', 'failed', '2 hours')
    await ran('a', 'done', '1 hour')
    await ran('b', 'queued', '10 minutes')
    expect(await check('jobs')).toMatchObject({ status: 'healthy', measures: { queued: 1 } })
    await ran('c', 'failed', '1 hour')
    expect(await check('jobs')).toMatchObject({ status: 'unhealthy', cause: 'job_failed', measures: { failed: ['c'] } })
    await ran('d', 'queued', '20 minutes')
    expect(await check('jobs')).toMatchObject({ status: 'unhealthy', cause: 'queue_stuck', measures: { stuck: ['d'] } })
  })
})

describe('webhooks', () => {
  it('tell of dead letters and of events that wait', async () => {
    const event = (id: string, state: string, ago: string) =>
      test.db.execute(
        `insert into caretaker.inbox (source, event_id, type, payload, state, received_at) values ('stripe', $1, 't', '', $2, now() - $3::interval)`,
        [id, state, ago],
      )
    await event('1', 'applied', '1 day')
    await event('2', 'received', '1 minute')
    expect(await check('webhooks')).toMatchObject({ status: 'healthy', measures: { waiting: 1 } })
    await event('3', 'received', '20 minutes')
    expect(await check('webhooks')).toMatchObject({ status: 'unhealthy', cause: 'queue_stuck' })
    await event('4', 'dead', '1 day')
    expect(await check('webhooks')).toMatchObject({ status: 'unhealthy', cause: 'dead_letters', measures: { deadLetters: 1 } })
    expect(await check('webhooks', {})).toMatchObject({ status: 'not_configured' })
  })
})

describe('a silent provider', () => {
  it('fails the webhooks, and is named to operators', async () => {
    await test.db.execute(`insert into caretaker.webhook_sources (source, silent_since) values ('stripe', now()), ('sms', null)`)
    expect(await check('webhooks')).toMatchObject({ status: 'unhealthy', cause: 'webhooks_silent', measures: { silent: ['stripe'] } })
    await test.db.execute('delete from caretaker.webhook_sources')
    expect(await check('webhooks')).toMatchObject({ status: 'healthy' })
  })
})

describe('migrations', () => {
  it('are pending where this release has more of them than the database', async () => {
    expect(await check('migrations')).toMatchObject({ status: 'healthy', measures: { pending: 0 } })
    const [last] = await test.db.query<{ version: string }>(
      'delete from supabase_migrations.schema_migrations where version = (select max(version) from supabase_migrations.schema_migrations) returning version',
    )
    expect(await check('migrations')).toMatchObject({
      status: 'unhealthy',
      cause: 'migrations_pending',
      measures: { pending: 1, versions: [last?.version] },
    })
    await test.db.execute('alter table supabase_migrations.schema_migrations rename to elsewhere')
    expect(await check('migrations')).toMatchObject({ cause: 'migrations_pending' })
    await test.db.execute('alter table supabase_migrations.elsewhere rename to schema_migrations')
  })
})

describe('memory', () => {
  const memory = (policy: object, env = {}) => runCheck(healthContext(test.db, { env }), resolveCheck('memory', policy))
  it('is held against what the policy says, else against what there is', async () => {
    expect(await memory({ atMost: '1 MB' })).toMatchObject({
      status: 'unhealthy',
      cause: 'memory_high',
      measures: { limitBytes: 1_048_576 },
    })
    expect(await memory({ atMost: '64 GB' })).toMatchObject({ status: 'healthy' })
    expect(await memory({})).toMatchObject({ status: 'healthy', measures: { rssBytes: expect.any(Number) } })
    expect(await memory({}, { AWS_LAMBDA_FUNCTION_MEMORY_SIZE: '10' })).toMatchObject({ cause: 'memory_high' })
  })
})

describe('the pooler', () => {
  const health = { checks: { database: {}, pooler: {} } }

  it('is asked where there is one', async () => {
    expect(await check('pooler')).toMatchObject({ status: 'not_configured' })
    const ctx = healthContext(test.db, { env: { DATABASE_URL: test.url, DATABASE_POOLED_URL: `${test.url}?pooled` } })
    expect(await runCheck(ctx, resolveCheck('pooler', {}))).toMatchObject({ status: 'healthy', critical: true })
  })

  it('that is down is told of itself, not of the database behind it', async () => {
    const pooledUrl = 'postgres://someone:hunter2hunter2@127.0.0.1:1/none'
    const db = openDatabase({ sessionUrl: test.url, pooledUrl })
    const ctx = healthContext(db, { health, env: { DATABASE_URL: test.url, DATABASE_POOLED_URL: pooledUrl } })
    expect(await runCheck(ctx, resolveCheck('pooler', {}))).toMatchObject({ status: 'unhealthy', cause: 'refused' })
    expect(await runCheck(ctx, resolveCheck('database', {}))).toMatchObject({ status: 'healthy' })
    // Where nobody looks at the pooler, requests do not reach the database, and that is what counts.
    const unwatched = { ...ctx, config: { ...ctx.config, health: { checks: { database: {} } } } }
    expect(await runCheck(unwatched, resolveCheck('database', {}))).toMatchObject({ status: 'unhealthy', cause: 'refused' })
    await db.close()
  })
})

describe('activity', () => {
  it('measures the database, and fails where no connection is left', async () => {
    expect(await check('activity')).toMatchObject({
      status: 'healthy',
      measures: { longTransactions: 0, waitingForLocks: 0, connections: expect.any(Number), size: expect.stringMatching(/\d/) },
    })
    const measured = (row: object) =>
      runCheck(
        healthContext(test.db, {
          overrides: {
            db: {
              ...test.db,
              probe: () => Promise.resolve([{ long: 0, oldest: 0, waiting: 0, used: 5, max: 100, size: '1 GB', lag: null, ...row }]),
            } as never,
          },
        }),
        resolveCheck('activity', {}),
      )
    expect(await measured({ used: 95 })).toMatchObject({ cause: 'connections_exhausted' })
    expect(await measured({ waiting: 1 })).toMatchObject({ cause: 'lock_waits' })
    expect(await measured({ long: 1 })).toMatchObject({ cause: 'long_transaction' })
    expect(await measured({ lag: 3 })).toMatchObject({ status: 'healthy', measures: { replicationLagSeconds: 3 } })
  })
})
