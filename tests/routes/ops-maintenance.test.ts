import { randomBytes } from 'node:crypto'
import { describe, expect, it } from 'vitest'
import { keyHash } from '../../lib/http/index.ts'
import { opsMaintenance } from '../../lib/routes/ops-maintenance.ts'
import { healthContext } from '../health/support.ts'
import { useTestDatabase } from '../support/database.ts'
import { testServer } from '../support/serve.ts'

const test = useTestDatabase()

async function operatorKey(role: string): Promise<string> {
  const key = `ck_${randomBytes(16).toString('hex')}`
  await test.db.execute('insert into caretaker.api_keys (name, role, hash) values ($1, $1, $2::bytea)', [role, keyHash(key)])
  return key
}

describe('/api/ops/maintenance', () => {
  it('is for operators: support sees it, developers announce it', async () => {
    const ctx = healthContext(test.db, { health: { checks: { a: { kind: 'dns' } } } })
    const server = testServer(opsMaintenance(), ctx)
    const keys = Object.fromEntries(
      await Promise.all((['developer', 'support'] as const).map(async (role) => [role, await operatorKey(role)])),
    ) as Record<string, string>
    const as = (role: string, body?: object) => ({
      headers: { authorization: `Bearer ${keys[role]}`, 'content-type': 'application/json' },
      ...(body === undefined ? {} : { method: 'POST', body: JSON.stringify(body) }),
    })
    const input = { title: 'Disks', endsAt: '2026-11-21T14:00Z', components: ['a'] }
    expect((await server.request('/api/ops/maintenance')).status).toBe(401)
    expect((await server.request('/api/ops/maintenance', as('support', input))).status).toBe(403)
    for (const wrong of [{ ...input, endsAt: 'soon' }, { ...input, endsAt: '2026-13-01T00:00Z' }, { ...input, other: 1 }, { title: 'x' }])
      expect((await server.request('/api/ops/maintenance', as('developer', wrong))).status).toBe(422)
    const made = await server.request('/api/ops/maintenance', as('developer', input))
    expect(made.status).toBe(201)
    const { id } = (await made.json()) as { id: string }
    expect(await (await server.request('/api/ops/maintenance', as('support'))).json()).toMatchObject({
      windows: [{ id, components: ['a'] }],
    })
    expect((await server.request(`/api/ops/maintenance/${id}/end`, as('developer', {}))).status).toBe(200)
    expect((await server.request(`/api/ops/maintenance/${id}/end`, as('developer', {}))).status).toBe(409)
  })
})
