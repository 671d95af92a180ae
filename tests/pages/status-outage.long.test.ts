import { createServer, type Server, type Socket } from 'node:net'
import { afterEach, expect, it } from 'vitest'
import { openDatabase } from '../../lib/platform/db.ts'
import { status } from '../../lib/routes/status.ts'
import { healthContext } from '../health/support.ts'
import { testServer } from '../support/serve.ts'

const sockets: Socket[] = []
let silent: Server | undefined
afterEach(() => {
  for (const socket of sockets.splice(0)) socket.destroy()
  silent?.close()
})

it('a database that accepts and says nothing keeps nobody from the status page', async () => {
  const opened = createServer((socket) => sockets.push(socket))
  silent = opened
  await new Promise<void>((resolve) => opened.listen(0, '127.0.0.1', resolve))
  const { port } = opened.address() as { port: number }
  const db = openDatabase({ sessionUrl: `postgres://someone:hunter2hunter2@127.0.0.1:${port}/none` })
  const ctx = healthContext(db, {
    health: { checks: { database: { timeoutMs: 300 }, shop: { kind: 'url', url: 'https://shop.test/' } } },
    overrides: { fetch: () => Promise.resolve(new Response('x')) },
  })
  const server = testServer(status(), ctx)
  const pages = await Promise.all(
    Array.from({ length: 50 }, async () => {
      const response = await server.request('/status')
      return [response.status, await response.text()] as const
    }),
  )
  expect(pages.every(([code]) => code === 200)).toBe(true)
  expect(pages[0]?.[1]).toMatch(
    /Major outage[\s\S]*history cannot be read[\s\S]*Database[\s\S]*did not answer in time[\s\S]*Shop[\s\S]*Operational/,
  )
  for (const socket of sockets.splice(0)) socket.destroy()
  opened.close()
  await db.close()
})
