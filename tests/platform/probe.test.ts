import { createServer, type Server, type Socket } from 'node:net'
import { afterEach, expect, it } from 'vitest'
import { type Database, openDatabase } from '../../lib/platform/db.ts'
import { useTestDatabase } from '../support/database.ts'

const test = useTestDatabase()
const opened: { db?: Database; server?: Server; sockets: Socket[] } = { sockets: [] }

afterEach(async () => {
  for (const socket of opened.sockets.splice(0)) socket.destroy()
  opened.server?.close()
  await opened.db?.close()
})

it('leaves the pool whole when a statement does not end', async () => {
  opened.db = openDatabase({ sessionUrl: test.url, maxConnections: 1 })
  for (let round = 0; round < 3; round++) {
    await expect(opened.db.probe('select pg_sleep(60)', [], AbortSignal.timeout(50))).rejects.toMatchObject({ code: 'timeout' })
    expect(await opened.db.probe('select 1 as one', [], AbortSignal.timeout(5_000))).toEqual([{ one: 1 }])
  }
})

it('gives up on a server that takes the connection and says nothing', async () => {
  const server = createServer((socket) => opened.sockets.push(socket))
  opened.server = server
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as { port: number }
  opened.db = openDatabase({ sessionUrl: `postgres://someone@127.0.0.1:${port}/none`, maxConnections: 1 })
  await expect(opened.db.probe('select 1', [], AbortSignal.timeout(100))).rejects.toMatchObject({ code: 'timeout' })
  await expect(opened.db.probe('select 1', [], AbortSignal.abort())).rejects.toMatchObject({ code: 'timeout' })
})
