import { beforeAll, describe, expect, it } from 'vitest'
import { defineConfig } from '../../lib/config/index.ts'
import { keyHash } from '../../lib/http/index.ts'
import { ops } from '../../lib/routes/ops.ts'
import { testContext } from '../support/context.ts'
import { useTestDatabase } from '../support/database.ts'
import { bearer, testServer } from '../support/serve.ts'

const test = useTestDatabase()
const config = defineConfig({
  app: { name: 'Test' },
  schedules: { backup: { cron: '0 3 * * *', heartbeat: 'https://hc.test/ping-key/secret-check' } },
  backup: { encryption: 'none' },
  jobs: { sweep: { schedule: '0 2 * * *', steps: [{ sql: 'select 1' }] } },
})
let woken = 0
const server = () =>
  testServer(
    ops({
      wake: async () => {
        woken++
      },
    }),
    testContext(test.db, { config }),
  )
const as = (role: string) => bearer(`ck_${role}_key`)

beforeAll(async () => {
  for (const role of ['developer', 'viewer'])
    await test.db.execute('insert into caretaker.api_keys (name, role, hash) values ($1, $1, $2::bytea)', [role, keyHash(`ck_${role}_key`)])
})

describe('an operator', () => {
  it('asks for a run beside the schedule, and the history says who', async () => {
    const asked = await server().request('/api/ops/jobs/sweep/run', { ...as('developer'), method: 'POST' })
    expect(asked.status).toBe(202)
    expect(woken).toBe(1)
    const { runs } = (await (await server().request('/api/ops/runs?job=sweep&state=queued', as('viewer'))).json()) as {
      runs: Record<string, unknown>[]
    }
    expect(runs).toMatchObject([{ job: 'sweep', kind: 'manual', state: 'queued', actor: { type: 'operator', role: 'developer' } }])
    expect(await (await server().request('/api/ops/runs?state=failed', as('viewer'))).json()).toEqual({ runs: [] })
  })

  it('is told which states there are', async () => {
    const response = await server().request('/api/ops/runs?state=broken', as('viewer'))
    expect(response.status).toBe(422)
    expect(JSON.stringify(await response.json())).toMatch(/state.*queued.*skipped/)
  })

  it('sees schedules with their graces, and no heartbeat address', async () => {
    const response = await server().request('/api/ops/jobs', as('viewer'))
    const text = await response.text()
    const { jobs } = JSON.parse(text) as { jobs: { name: string }[] }
    expect(jobs.find(({ name }) => name === 'backup')).toMatchObject({
      schedule: { cron: '0 3 * * *', missed: 'last', startGraceMs: 300_000, overlap: 0 },
    })
    expect(text).not.toContain('secret-check')
  })

  it('who may only look starts nothing, and nobody does without a key', async () => {
    expect((await server().request('/api/ops/jobs/sweep/run', { ...as('viewer'), method: 'POST' })).status).toBe(403)
    for (const headers of [{}, as('nobody'), bearer('')])
      expect((await server().request('/api/ops/jobs/sweep/run', { ...headers, method: 'POST' })).status).toBe(401)
    expect((await server().request('/api/ops/runs')).status).toBe(401)
    expect(woken).toBe(1)
  })
})
