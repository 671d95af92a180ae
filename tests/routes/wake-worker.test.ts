import { createServer, type RequestListener } from 'node:http'
import type { AddressInfo } from 'node:net'
import { expect, it } from 'vitest'
import { readEnv } from '../../lib/platform/env.ts'
import { wakeWorker } from '../../lib/routes/wake-worker.ts'
import { logLines, testContext } from '../support/context.ts'
import { useTestDatabase } from '../support/database.ts'

const test = useTestDatabase()
const secret = 'the-cron-secret-of-this-test'

async function listen(answer: RequestListener): Promise<{ url: string; close(): void }> {
  const server = createServer(answer)
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const close = () => {
    server.closeAllConnections()
    server.close()
  }
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, close }
}

const context = (environment: Record<string, string>) => testContext(test.db, { env: readEnv(environment) })

it('presents the secret to the configured address and to nobody it redirects to', async () => {
  const heard: (string | undefined)[] = []
  const thief = await listen((request, response) => {
    heard.push(request.headers.authorization)
    response.end()
  })
  const host = await listen((request, response) => {
    expect(request.headers.authorization).toBe(`Bearer ${secret}`)
    response.writeHead(307, { location: `${thief.url}/api/worker` }).end()
  })
  const ctx = context({ PUBLIC_URL: `${host.url}/some/page`, CRON_SECRET: secret })
  await wakeWorker(ctx)
  host.close()
  thief.close()
  expect(heard).toEqual([])
  expect(logLines(ctx).join('')).toContain('not woken')
  expect(logLines(ctx).join('')).not.toContain(secret)
})

it('does not wait for a worker that is at work', async () => {
  const asked: (string | undefined)[] = []
  const host = await listen((request) => void asked.push(`${request.method} ${request.url}`))
  const ctx = context({ PUBLIC_URL: host.url, CRON_SECRET: secret })
  await wakeWorker(ctx)
  host.close()
  expect(asked).toEqual(['POST /api/worker'])
  expect(logLines(ctx)).toEqual([])
})

it.each([
  ['nobody listens', { PUBLIC_URL: 'http://127.0.0.1:1', CRON_SECRET: secret }],
  ['no address is known', { CRON_SECRET: secret }],
  ['no secret is set', { PUBLIC_URL: 'http://127.0.0.1:1' }],
])('says so where %s, and fails nothing', async (_what, environment) => {
  const ctx = context(environment)
  await wakeWorker(ctx)
  expect(logLines(ctx)).toHaveLength(1)
})
