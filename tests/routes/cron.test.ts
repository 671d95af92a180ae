import { describe, expect, it } from 'vitest'
import { defineConfig } from '../../lib/config/index.ts'
import { fixedClock } from '../../lib/platform/clock.ts'
import { cron } from '../../lib/routes/cron.ts'
import { worker } from '../../lib/routes/worker.ts'
import { testContext } from '../support/context.ts'
import { useTestDatabase } from '../support/database.ts'
import { bearer, testServer } from '../support/serve.ts'

const test = useTestDatabase()

const policy = defineConfig({
  app: { name: 'Test' },
  jobs: { 'count-up': { schedule: '0 2 * * *', steps: [{ sql: 'insert into counts default values' }] } },
  schedules: { health: false, metrics: false },
})

function setup(at: string) {
  let woken = 0
  const wake = async () => {
    woken++
  }
  const ctx = testContext(test.db, { config: policy, clock: fixedClock(at) })
  const server = testServer([...cron({ wake }), ...worker({ wake })], ctx)
  const auth = bearer(ctx.env.CRON_SECRET as string)
  return { ctx, server, auth, woken: () => woken }
}

describe('/api/cron/{job}', () => {
  it('claims the slot once, whoever fires it and however often', async () => {
    const { server, auth, woken } = setup('2026-11-21T02:00:03Z')
    const first = await server.request('/api/cron/count-up', auth)
    expect(first.status).toBe(202)
    expect(await first.json()).toMatchObject({ job: 'count-up', slot: '2026-11-21T02:00:00.000Z', claimed: true, state: 'queued' })
    const again = await server.request('/api/cron/count-up', { ...auth, method: 'POST' })
    expect(again.status).toBe(200)
    expect(await again.json()).toMatchObject({ claimed: false })
    expect(woken()).toBe(1)
  })

  it('takes a firing a few seconds early for the slot it is meant for', async () => {
    const { server, auth } = setup('2026-11-22T01:59:45Z')
    expect(await (await server.request('/api/cron/count-up', auth)).json()).toMatchObject({ slot: '2026-11-22T02:00:00.000Z' })
  })

  it('looks after the other jobs where no clock calls every minute', async () => {
    await test.db.execute('truncate caretaker.runs, caretaker.watched_jobs')
    const { server, auth } = setup('2026-12-01T02:00:00Z')
    await server.request('/api/cron/count-up', auth)
    const later = setup('2026-12-02T02:00:00Z')
    await later.server.request('/api/cron/count-up', later.auth)
    const runs = await test.db.query<{ job: string }>('select job from caretaker.runs order by job, slot')
    expect(runs.map(({ job }) => job)).toEqual(['alerts', 'count-up', 'count-up', 'housekeeping'])
    // The clock has just ticked: the next firing minds its own job.
    const soon = setup('2026-12-02T02:05:00Z')
    await soon.server.request('/api/cron/count-up', soon.auth)
    expect(await test.db.query(`select from caretaker.watched_jobs where seen_at > '2026-12-02T02:00:00Z'`)).toHaveLength(0)
  })

  it('leaves a job alone that the policy has turned off, though a clock still fires it', async () => {
    const { server, auth, woken } = setup('2026-11-21T02:00:03Z')
    const answer = await server.request('/api/cron/health', auth)
    expect(answer.status).toBe(200)
    expect(await answer.json()).toEqual({ job: 'health', claimed: false, reason: 'schedules.health is false' })
    expect(await test.db.query(`select from caretaker.runs where job = 'health'`)).toEqual([])
    expect(woken()).toBe(0)
  })

  it('names the nearest job when there is none of that name', async () => {
    const { server, auth } = setup('2026-11-21T02:00:03Z')
    const response = await server.request('/api/cron/count-upp', auth)
    expect(response.status).toBe(404)
    expect(await response.json()).toMatchObject({ code: 'job_unknown', detail: expect.stringContaining('did you mean "count-up"') })
  })

  it('without the secret does nothing', async () => {
    const { server } = setup('2026-11-23T02:00:03Z')
    expect((await server.request('/api/cron/count-up')).status).toBe(401)
    expect((await server.request('/api/cron/tick', bearer('wrong-wrong-wrong-wrong'))).status).toBe(401)
    expect(await test.db.query(`select from caretaker.runs where slot = '2026-11-23T02:00:00Z'`)).toHaveLength(0)
  })
})

describe('/api/worker', () => {
  it('works off what was claimed, once', async () => {
    await test.db.execute('truncate caretaker.runs')
    await test.db.execute('create table counts (id int generated always as identity)')
    const { server, auth } = setup('2026-11-24T02:00:03Z')
    await server.request('/api/cron/count-up', auth)
    const responses = await Promise.all([1, 2].map(() => server.request('/api/worker', { ...auth, method: 'POST' })))
    expect(responses.map((response) => response.status)).toEqual([200, 200])
    expect(await test.db.query('select id from counts')).toHaveLength(1)
    await server.request('/api/cron/count-up', auth)
    await server.request('/api/worker', { ...auth, method: 'POST' })
    expect(await test.db.query('select id from counts')).toHaveLength(1)
  })

  it('does not answer a GET, nor without the secret', async () => {
    const { server, auth } = setup('2026-11-24T02:00:03Z')
    expect((await server.request('/api/worker', auth)).status).toBe(405)
    expect((await server.request('/api/worker', { method: 'POST' })).status).toBe(401)
  })
})
