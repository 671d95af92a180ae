import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { withSessions } from '../../lib/backup/sessions.ts'
import type { Session } from '../../lib/platform/db.ts'
import { useTestDatabase } from '../support/database.ts'

const source = useTestDatabase({ template: 'template0' })
const signal = new AbortController().signal
let pooler: Server
let pooled: string

beforeAll(async () => {
  pooler = transactionPooler(new URL(source.url))
  await new Promise<void>((listening) => pooler.listen(0, '127.0.0.1', listening))
  const url = new URL(source.url)
  url.hostname = '127.0.0.1'
  url.port = String((pooler.address() as AddressInfo).port)
  pooled = url.toString()
})
afterAll(() => new Promise((closed) => pooler.close(closed)))

test('a pooler that gives each transaction another connection is refused before anything is read', async () => {
  const attempt = withSessions(pooled, undefined, 3, () => Promise.resolve('read'), signal)
  await expect(attempt).rejects.toMatchObject({ code: 'invalid_input', detail: expect.stringContaining('5432 instead of 6543') })
})

test('sessions that are some are left as they were', async () => {
  const work = async (sessions: readonly Session[]) => {
    await sessions[0]?.execute(`select set_config('caretaker.probe', 'kept', false)`)
    return sessions[0]?.query(`select current_setting('caretaker.probe') as probe, now() = statement_timestamp() as outside`)
  }
  expect(await withSessions(source.url, undefined, 2, work, signal)).toEqual([{ probe: 'kept', outside: true }])
})

/**
 * Speaks to each client as a server does, and to the server on connections that all clients share: whoever begins takes the one that was
 * given back last, and gives it back when the server says that no transaction is open.
 */
function transactionPooler(server: URL): Server {
  const free: Backend[] = []
  return createServer((client) => {
    let backend: Backend | undefined
    let waiting: Promise<void> = Promise.resolve()
    const forward = async (bytes: Buffer) => {
      if (bytes.readUInt32BE(0) === bytes.length && bytes.readUInt32BE(4) === 196_608) {
        const made = new Backend(server)
        client.write(await made.say(bytes))
        free.push(made)
        return
      }
      // Terminate: the connection behind stays for others.
      if (bytes[0] === 0x58) return
      backend ??= free.pop() ?? (await Backend.opened(server))
      const reply = await backend.say(bytes)
      client.write(reply)
      if (reply.at(-6) === 0x5a && reply.at(-1) === 0x49) {
        free.push(backend)
        backend = undefined
      }
    }
    client.on('data', (bytes: Buffer) => {
      waiting = waiting.then(() => forward(bytes))
    })
    client.on('error', () => undefined)
    client.on('close', () => {
      backend?.end()
      for (const one of free.splice(0)) one.end()
    })
  })
}

class Backend {
  readonly #socket: Socket
  #pieces: Buffer[] = []
  #hear: (reply: Buffer) => void = () => undefined

  constructor(server: URL) {
    this.#socket = connect(Number(server.port), server.hostname)
    this.#socket.on('error', () => undefined)
    this.#socket.on('data', (piece: Buffer) => {
      this.#pieces.push(piece)
      const reply = Buffer.concat(this.#pieces)
      // ReadyForQuery ends every reply; the ones here are short.
      if (reply.at(-6) !== 0x5a || reply.readUInt32BE(reply.length - 5) !== 5) return
      this.#pieces = []
      this.#hear(reply)
    })
  }

  static async opened(server: URL): Promise<Backend> {
    const made = new Backend(server)
    const words = `user\0${server.username}\0database\0${server.pathname.slice(1)}\0\0`
    const startup = Buffer.alloc(8 + words.length)
    startup.writeUInt32BE(startup.length, 0)
    startup.writeUInt32BE(196_608, 4)
    startup.write(words, 8)
    await made.say(startup)
    return made
  }

  say(bytes: Buffer): Promise<Buffer> {
    return new Promise((hear) => {
      this.#hear = hear
      this.#socket.write(bytes)
    })
  }

  end(): void {
    this.#socket.destroy()
  }
}
