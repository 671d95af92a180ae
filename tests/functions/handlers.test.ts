import { randomBytes } from 'node:crypto'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import type { NetlifyContext } from '../../lib/http/hosts/netlify.ts'
import { useTestDatabase } from '../support/database.ts'
import { entries } from './hosts-files.ts'

const test = useTestDatabase()
const secret = randomBytes(16).toString('hex')

interface Entry {
  default: { fetch(request: Request, context?: NetlifyContext): Promise<Response> }
}

/** The entry as a new instance has it: nothing prepared yet. */
async function open(folder: 'netlify/functions' | 'api', name: string): Promise<Entry['default']> {
  vi.resetModules()
  const entry = entries(folder)[name]
  if (entry === undefined) throw new Error(`no entry ${folder}/${name}.ts`)
  return ((await import(entry.url)) as Entry).default
}

beforeEach(() => {
  vi.stubEnv('DATABASE_URL', test.url)
  vi.stubEnv('CRON_SECRET', secret)
  vi.stubEnv('LOG_LEVEL', 'silent')
  // No worker to wake.
  for (const name of ['PUBLIC_URL', 'URL', 'VERCEL_URL']) vi.stubEnv(name, '')
})
afterEach(() => {
  vi.unstubAllEnvs()
})

const post = (path: string, headers: Record<string, string> = {}) =>
  new Request(`https://caretaker.example${path}`, { method: 'POST', headers })
const problem = async (response: Response) => ({
  status: response.status,
  code: ((await response.json()) as { code: string }).code,
  type: response.headers.get('content-type'),
})
const refused = (status: number, code: string) => ({ status, code, type: 'application/problem+json' })

describe.each(['netlify/functions', 'api'] as const)('%s', (folder) => {
  it.each(Object.keys(entries('api')))('%s answers an address it does not know with a problem', async (name) => {
    const handler = await open(folder, name)
    expect(await problem(await handler.fetch(post('/nowhere')))).toEqual(refused(404, 'not_found'))
  })

  it.each([
    ['cron', '/api/cron/tick'],
    ['worker', '/api/worker'],
  ])('%s takes CRON_SECRET, and is closed while it is not set', async (name, path) => {
    const handler = await open(folder, name)
    expect(await problem(await handler.fetch(post(path)))).toEqual(refused(401, 'unauthorized'))
    expect(await problem(await handler.fetch(post(path, { authorization: 'Bearer ' })))).toEqual(refused(401, 'unauthorized'))
    expect(await problem(await handler.fetch(post(path, { authorization: `Bearer ${secret}x` })))).toEqual(refused(401, 'unauthorized'))
    vi.stubEnv('CRON_SECRET', '')
    const closed = await open(folder, name)
    expect(await problem(await closed.fetch(post(path, { authorization: 'Bearer ' })))).toEqual(refused(503, 'not_configured'))
    expect(await problem(await closed.fetch(post(path, { authorization: `Bearer ${secret}` })))).toEqual(refused(503, 'not_configured'))
  })

  it('claims a slot for the secret', async () => {
    const handler = await open(folder, 'cron')
    const response = await handler.fetch(post('/api/cron/daily-cleanup', { authorization: `Bearer ${secret}` }))
    expect([200, 202]).toContain(response.status)
    expect(await response.json()).toMatchObject({ job: 'daily-cleanup', state: 'queued' })
  })

  it.each([
    ['gdpr', '/api/gdpr/export'],
    ['ops', '/api/ops/jobs/backup/run'],
  ])('%s takes a person, not the host', async (name, path) => {
    const handler = await open(folder, name)
    expect(await problem(await handler.fetch(post(path)))).toEqual(refused(401, 'unauthorized'))
    expect(await problem(await handler.fetch(post(path, { authorization: 'Bearer ck_unknown' })))).toEqual(refused(401, 'unauthorized'))
  })

  it('webhooks are closed while their secret is not set', async () => {
    vi.stubEnv('STRIPE_WEBHOOK_SECRET', '')
    const handler = await open(folder, 'webhooks')
    expect(await problem(await handler.fetch(post('/api/webhooks/stripe', { 'stripe-signature': 't=1,v1=00' })))).toEqual(
      refused(503, 'not_configured'),
    )
  })

  it('answers 503 in a broken environment, with the same headers as ever, and recovers in the next instance', async () => {
    vi.stubEnv('DATABASE_URL', 'mysql://nowhere')
    const logged = vi.spyOn(console, 'error').mockImplementation(() => undefined)
    const handler = await open(folder, 'health')
    const response = await handler.fetch(new Request('https://caretaker.example/health/live'))
    expect(response.headers.get('x-content-type-options')).toBe('nosniff')
    const text = await response.clone().text()
    expect(await problem(response)).toEqual(refused(503, 'env_invalid'))
    expect(text).not.toContain('mysql')
    expect(logged.mock.calls.flat().join()).toContain('DATABASE_URL')
    logged.mockClear()
    vi.stubEnv('DATABASE_URL', test.url)
    expect((await (await open(folder, 'health')).fetch(new Request('https://caretaker.example/health/live'))).status).toBe(200)
  })
})

describe('tick', () => {
  it("is Netlify's clock: claims what is due without a secret", async () => {
    vi.stubEnv('CRON_SECRET', '')
    const handler = await open('netlify/functions', 'tick')
    const response = await handler.fetch(post('/'))
    expect(response.status).toBe(200)
    expect(Object.keys((await response.json()) as object)).toEqual(expect.arrayContaining(['claimed', 'wake']))
    const watched = await test.db.query<{ job: string }>('select job from caretaker.watched_jobs order by job')
    expect(watched.map(({ job }) => job)).toContain('daily-cleanup')
  })

  it('says so when it fails', async () => {
    vi.stubEnv('DATABASE_URL', 'postgres://nobody@127.0.0.1:1/none')
    const handler = await open('netlify/functions', 'tick')
    expect(await problem(await handler.fetch(post('/')))).toEqual(refused(503, 'database_unavailable'))
  })
})
