import { describe, expect, it } from 'vitest'
import type { Database } from '../../lib/platform/db.ts'
import { CaretakerError } from '../../lib/platform/errors.ts'
import { runTick } from '../../lib/routes/cron.ts'
import { pagerDutyApi, pagerDutyState } from '../doubles/pagerduty.ts'
import { type MailState, sendgridMail } from '../doubles/sendgrid-mail.ts'
import { slackApi, slackState } from '../doubles/slack.ts'
import { useTestDatabase } from '../support/database.ts'
import { doubles } from '../support/doubles.ts'
import { alertContext } from './world.ts'

const test = useTestDatabase()
const wake = () => Promise.resolve()

/** An instance whose database comes and goes; `hangs` takes the question and never answers. */
function instance(env: Record<string, string> = {}) {
  const made = alertContext(test.db, { channels: { slack: {}, pagerduty: {}, email: { to: ['on-call@shop.test'] } } }, {}, env)
  const slack = slackState()
  const pagerDuty = pagerDutyState()
  const mail: MailState = { key: 'SG.key-of-the-test', sender: 'ops@shop.test', sent: [] }
  doubles.use(...slackApi(slack), ...pagerDutyApi(pagerDuty), ...sendgridMail(mail))
  let state: 'there' | 'gone' | 'hangs' = 'there'
  const gone = () =>
    Promise.reject(new CaretakerError(state === 'hangs' ? 'timeout' : 'database_unavailable', 'The database cannot be reached.'))
  const either =
    <T extends unknown[], R>(work: (...given: T) => Promise<R>) =>
    (...given: T): Promise<R> =>
      state === 'there' ? work(...given) : gone()
  const db: Database = {
    ...test.db,
    query: either(test.db.query) as Database['query'],
    execute: either(test.db.execute),
    probe: either(test.db.probe) as Database['probe'],
    transaction: either(test.db.transaction) as Database['transaction'],
  }
  const ctx = { ...made.ctx, db }
  return {
    ...{ ctx, minutes: made.minutes, slack, pagerDuty, mail },
    tick: () => runTick(ctx, [], wake),
    set: (next: typeof state) => {
      state = next
    },
  }
}

describe('where the database cannot be reached', () => {
  it('every channel is told without it, once in a quarter of an hour, and told when it is back', async () => {
    const { ctx, tick, set, minutes, slack, pagerDuty, mail } = instance()
    await tick()
    expect(slack.sent).toEqual([])
    set('gone')
    for (let minute = 0; minute < 14; minute++) {
      await expect(tick()).rejects.toMatchObject({ code: 'database_unavailable' })
      minutes(1)
    }
    expect(slack.sent).toHaveLength(1)
    expect(slack.sent[0]?.text).toBe(`[P0] Shop (${ctx.env.CARETAKER_ENVIRONMENT}): database: cannot be reached`)
    expect(slack.sent[0]?.body).toContain('*Since:* 2026-11-21 12:00 UTC')
    expect(mail.sent).toHaveLength(1)
    expect(pagerDuty.incidents).toMatchObject([{ state: 'triggered', severity: 'critical' }])
    minutes(2)
    await expect(tick()).rejects.toThrow()
    expect(slack.sent).toHaveLength(2)
    set('there')
    await tick()
    expect(slack.sent[2]?.text).toContain('Watching again')
    expect(slack.sent[2]?.body).toContain('*Nobody watched:* from 2026-11-21 12:00 UTC to 2026-11-21 12:16 UTC')
    expect(pagerDuty.incidents).toMatchObject([{ state: 'resolved' }])
    minutes(1)
    await tick()
    expect(slack.sent).toHaveLength(3)
  })

  it('and one that takes the question and never answers is the same', async () => {
    const { tick, set, slack } = instance()
    set('hangs')
    await expect(tick()).rejects.toMatchObject({ code: 'timeout' })
    expect(slack.sent).toHaveLength(1)
  })

  it('a channel that fails too keeps the others from nothing', async () => {
    const { tick, set, slack, mail } = instance()
    slack.failWith = 500
    set('gone')
    await expect(tick()).rejects.toThrow()
    expect(mail.sent).toHaveLength(1)
  })

  it('one of several instances speaks for all, where they can ask each other', async () => {
    const { ctx, set, slack } = instance({ UPSTASH_REDIS_REST_URL: 'https://redis.test', UPSTASH_REDIS_REST_TOKEN: 'a-token-of-the-test' })
    set('gone')
    const asked: string[] = []
    const limiter = {
      hit: (key: string, limit: number) => {
        asked.push(key)
        return Promise.resolve({ allowed: asked.length === 1, limit, remaining: 0, resetSeconds: 900 })
      },
    }
    for (let n = 0; n < 3; n++) await expect(runTick({ ...ctx, limiter, db: { ...ctx.db } }, [], wake)).rejects.toThrow()
    expect(new Set(asked).size).toBe(1)
    expect(slack.sent).toHaveLength(1)
  })
})
