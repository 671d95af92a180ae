import { afterAll, beforeAll, expect, it } from 'vitest'
import { jobs } from '../../../lib/catalog.ts'
import { work } from '../../../lib/jobs/index.ts'
import { systemClock } from '../../../lib/platform/clock.ts'
import { emitEvent } from '../../../lib/platform/outbox.ts'
import { runTick } from '../../../lib/routes/cron.ts'
import { slackApi, slackState } from '../../doubles/slack.ts'
import { useTestDatabase } from '../../support/database.ts'
import { doubles } from '../../support/doubles.ts'
import { type Dependency, startDependency } from './dependency.ts'
import { operationsContext } from './operations.ts'

const test = useTestDatabase()
let dependency: Dependency
beforeAll(async () => {
  dependency = await startDependency()
})
afterAll(() => dependency.close())

it('what breaks between two ticks is told by the time the worker of the next one has gone', async () => {
  const slack = slackState()
  doubles.use(...slackApi(slack))
  const ctx = operationsContext(
    test.db,
    'ticking',
    '0123456789abcdef0123456789abcdef',
    {
      health: { checks: { app: { kind: 'url', url: dependency.url, timeoutMs: 20_000, critical: true } } },
      alerts: { channels: { slack: {} } },
    },
    { clock: systemClock },
  )
  const all = jobs(ctx.config)
  // As a minute of the host's clock brings it: nothing of a job has been seen to since.
  const minute = async () => {
    await test.db.execute(
      `update caretaker.watched_jobs set since = since - interval '1 minute', seen_slot = seen_slot - interval '1 minute'`,
    )
    await test.db.execute(`update caretaker.runs set slot = slot - interval '1 minute'`)
    const report = await runTick(ctx, all, () => Promise.resolve())
    const worked = await work(ctx, all)
    expect(report.troubled).toEqual([])
    expect(worked.failed).toBe(0)
  }
  await minute()
  await minute()
  expect(slack.sent).toEqual([])
  expect(await test.db.query(`select job from caretaker.runs where job = 'alerts' and state = 'done'`)).not.toEqual([])

  await dependency.set('failing')
  await minute()
  expect(slack.sent.map(({ text }) => text)).toEqual(['[P0] Shop (ticking): app: answered with a server error'])
  await minute()
  expect(slack.sent).toHaveLength(1)

  // What happens beside the checks is told of by the next tick as well.
  await test.db.transaction((tx) => emitEvent(tx, 'webhooks.silent', { source: 'stripe' }))
  await minute()
  expect(slack.sent.map(({ text }) => text).slice(1)).toEqual(['[P2] Shop (ticking): Nothing comes from "stripe" that usually would'])
})
