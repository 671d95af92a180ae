import { spawnSync } from 'node:child_process'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { openLimiter } from '../../../lib/drivers/limiter/index.ts'
import { upstashLimiter } from '../../../lib/drivers/limiter/upstash.ts'
import type { Database } from '../../../lib/platform/db.ts'
import { readEnv } from '../../../lib/platform/env.ts'
import { rateLimiterConformance } from '../../conformance/limiter.ts'
import { startUpstashServer, type UpstashServer } from '../../support/upstash-server.ts'

const installed = spawnSync('which', ['redis-server']).status === 0
const inCi = (process.env.CI ?? '') !== ''

describe.runIf(!installed)('Upstash over Redis', () => {
  // On a person's machine this may be missing; in CI it may not.
  it.skipIf(!inCi)('needs redis-server on the PATH: apt-get install redis-server', () => {
    expect.unreachable('redis-server is not on the PATH: the limiter of production was not tested')
  })
})

describe.runIf(installed)('Upstash over Redis', () => {
  let server: UpstashServer
  beforeAll(async () => {
    server = await startUpstashServer()
  })
  afterAll(async () => {
    await server.close()
  })
  const open = (options: { timeoutMs?: number; token?: string; url?: string } = {}) =>
    upstashLimiter({ url: server.url, token: server.token, ...options })

  rateLimiterConformance(() => open())

  it('throws when nothing answers in time, instead of letting everything through', async () => {
    server.fail('hang')
    await expect(open({ timeoutMs: 100 }).hit('a', 1, 60)).rejects.toMatchObject({
      code: 'upstream_failed',
      detail: expect.stringContaining('no answer within 100 ms'),
    })
  })

  it('tries once more when the connection is cut, and then throws', async () => {
    server.fail('cut')
    expect(await open().hit('cut', 5, 60)).toMatchObject({ allowed: true, remaining: 4 })
    server.fail('cut')
    server.fail('cut')
    await expect(open().hit('cut', 5, 60)).rejects.toMatchObject({
      code: 'upstream_failed',
      detail: expect.stringContaining('cannot be reached'),
    })
  })

  it.each([
    [{ status: 500, body: '{"error":"ERR internal"}' }, 'answered with an error'],
    [{ status: 502, body: '<html>' }, 'not JSON'],
  ])('throws on %j', async (fault, reason) => {
    server.fail(fault)
    const error = await open()
      .hit('private-key', 5, 60)
      .catch((thrown: unknown) => thrown)
    expect(error).toMatchObject({ code: 'upstream_failed', detail: expect.stringContaining(reason) })
    expect(String(error)).not.toContain('private-key')
  })

  it('says that the token is refused, without showing it', async () => {
    const error = await open({ token: 'wrong-token-wrong' })
      .hit('a', 5, 60)
      .catch((thrown: unknown) => thrown)
    expect(error).toMatchObject({ detail: expect.stringContaining('check UPSTASH_REDIS_REST_TOKEN') })
    expect(String(error)).not.toContain('wrong-token')
  })

  it('is what openLimiter opens where both variables are set', async () => {
    const env = readEnv({ UPSTASH_REDIS_REST_URL: server.url, UPSTASH_REDIS_REST_TOKEN: server.token })
    // Never asked: a database that fails on any use.
    const db = new Proxy({} as Database, { get: () => expect.unreachable('the database was asked') })
    expect(await openLimiter(env, db).hit('ip:203.0.113.77', 5, 60)).toMatchObject({ allowed: true, remaining: 4 })
  })
})
