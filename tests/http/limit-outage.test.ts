import { expect, it, vi } from 'vitest'
import { health } from '../../lib/routes/health.ts'
import { testContext } from '../support/context.ts'
import { useTestDatabase } from '../support/database.ts'
import { testServer } from '../support/serve.ts'

const test = useTestDatabase()

it('liveness does not ask the rate limiter, which stands on a dependency', async () => {
  const hit = vi.fn(() => Promise.reject(new Error('asked')))
  const response = await testServer(health(), testContext(test.db, { limiter: { hit } })).request('/health/live')
  expect(response.status).toBe(200)
  expect(hit).not.toHaveBeenCalled()
})

it('a counter that never answers does not keep a standard route from answering', { timeout: 60_000 }, async () => {
  const limiter = { hit: () => new Promise<never>(() => undefined) }
  const response = await testServer(health(), testContext(test.db, { limiter })).request('/health')
  expect(response.status).toBe(200)
})
