import { expect, it } from 'vitest'
import { findJob, jobs } from '../../../lib/catalog.ts'
import { defineConfig } from '../../../lib/config/index.ts'
import { tick } from '../../../lib/jobs/index.ts'
import { testContext } from '../../support/context.ts'
import { useTestDatabase } from '../../support/database.ts'

const test = useTestDatabase()

const policy = defineConfig({ app: { name: 'Test' }, gdpr: { subject: { table: 'people' } } })
const gdpr = [findJob(jobs(policy), 'gdpr')]

async function open(state: string, receivedAgo: string) {
  await test.db.execute(
    `insert into caretaker.gdpr_requests (kind, state, subject, subject_hash, requested_by, received_at, due_at)
     values ('erase', $1, 's', gen_random_uuid()::text, '{}', now() - $2::interval, now() + interval '1 month')`,
    [state, receivedAgo],
  )
}

async function lastRun(ago: string) {
  await test.db.execute(
    `insert into caretaker.runs (job, slot, state, actor, queued_at, finished_at)
     values ('gdpr', now() - $1::interval, 'done', '{}', now() - $1::interval, now() - $1::interval)`,
    [ago],
  )
}

it.each([
  ['waiting', '1 day', null, 1],
  ['waiting', '1 day', '61 minutes', 1],
  ['waiting', '1 day', '59 minutes', 0],
  ['verified', '1 day', '59 minutes', 0],
  ['verified', '1 minute', '59 minutes', 1],
  ['in_progress', '1 day', '2 hours', 1],
  ['in_progress', '1 day', '1 minute', 0],
  ['done', '1 day', null, 0],
  ['received', '1 day', null, 0],
] as const)('a request %s since %s, last tried %s ago, is given %d runs by the tick', async (state, received, tried, queued) => {
  await test.db.execute('truncate caretaker.runs, caretaker.gdpr_requests cascade')
  const ctx = testContext(test.db, { config: policy })
  await open(state, received)
  if (tried !== null) await lastRun(tried)
  await tick(ctx, gdpr)
  await tick(ctx, gdpr)
  expect(await test.db.query(`select from caretaker.runs where job = 'gdpr' and state = 'queued'`)).toHaveLength(queued)
})

it.each([
  [`state = 'verified', review = 'needed'`, '2 hours', 0],
  [`state = 'verified', not_before = now() + interval '1 minute'`, '2 hours', 0],
  [`state = 'verified', not_before = now() - interval '1 minute'`, '10 minutes', 1],
  [`state = 'received', named = '\\x00'`, '2 minutes', 0],
  [`state = 'received', named = '\\x00'`, '11 minutes', 1],
  [`state = 'verified', review = 'needed', due_at = now() + interval '8 days'`, '2 hours', 0],
  [`state = 'verified', review = 'needed', due_at = now() + interval '6 days'`, '2 hours', 1],
  [`state = 'verified', review = 'needed', due_at = now() + interval '6 days', reminded_days = 7`, '2 hours', 0],
  [`state = 'verified', review = 'needed', due_at = now() + interval '1 day', reminded_days = 7`, '2 hours', 1],
  [`state = 'verified', review = 'needed', due_at = now() - interval '1 day', reminded_days = 2`, '2 hours', 1],
  [`state = 'verified', review = 'needed', due_at = now() - interval '1 day', reminded_days = -1`, '2 hours', 0],
  [`state = 'done', due_at = now() - interval '1 day'`, '2 hours', 0],
  [`state = 'done', receipt = '{"object":"k"}', file_expires_at = now() - interval '1 second'`, '2 hours', 1],
  [`state = 'done', receipt = '{"object":"k"}', file_expires_at = now() + interval '1 day'`, '2 hours', 0],
  [`state = 'done', receipt = '{}', file_expires_at = now() - interval '1 second'`, '2 hours', 0],
] as const)('a request with %s, last tried %s ago, is given %d runs by the tick', async (change, tried, queued) => {
  await test.db.execute('truncate caretaker.runs, caretaker.gdpr_requests cascade')
  await open('verified', '1 day')
  await test.db.execute(`update caretaker.gdpr_requests set ${change}`)
  await lastRun(tried)
  await tick(testContext(test.db, { config: policy }), gdpr)
  expect(await test.db.query(`select from caretaker.runs where job = 'gdpr' and state = 'queued'`)).toHaveLength(queued)
})
