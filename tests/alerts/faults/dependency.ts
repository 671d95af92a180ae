import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'

export type Mood = 'well' | 'slow' | 'refusing' | 'hanging' | 'failing' | 'lying' | 'cutting' | 'flapping'

/** Something that the app depends on, in whatever mood a test wants it. */
export interface Dependency {
  url: string
  /** How long it takes when it is slow, ms: longer than anybody waits. */
  set(mood: Mood): Promise<void>
  /** How often it was asked. */
  asked(): number
  close(): Promise<void>
}

const slowMs = 30_000

export async function startDependency(): Promise<Dependency> {
  let mood: Mood = 'well'
  let asked = 0
  const server: Server = createServer((request, response) => {
    asked++
    if (mood === 'flapping' ? asked % 2 === 0 : mood === 'well') return void response.writeHead(200).end('ok')
    if (mood === 'slow') {
      const answer = setTimeout(() => response.writeHead(200).end('ok'), slowMs)
      response.on('close', () => clearTimeout(answer))
      return
    }
    if (mood === 'hanging') return
    if (mood === 'cutting') return void request.socket.destroy()
    // Somebody else answers in its place, and says that all is well.
    if (mood === 'lying') return void response.writeHead(302, { location: 'http://localhost:1/welcome' }).end()
    response.writeHead(500).end()
  })
  const listen = (port: number) =>
    new Promise<void>((resolve, reject) => {
      server.once('error', reject)
      server.listen(port, '127.0.0.1', () => {
        server.off('error', reject)
        resolve()
      })
    })
  const stop = () =>
    new Promise<void>((resolve) => {
      server.close(() => resolve())
      server.closeAllConnections()
    })
  // Somebody may have been given its port meanwhile, for a moment.
  const listenAgain = async () => {
    for (let tries = 0; ; tries++)
      try {
        return await listen(port)
      } catch (error) {
        if ((error as { code?: string }).code !== 'EADDRINUSE' || tries === 600) throw error
        await delay(100)
      }
  }
  await listen(0)
  const { port } = server.address() as AddressInfo
  return {
    url: `http://127.0.0.1:${port}/`,
    asked: () => asked,
    async set(next) {
      mood = next
      if (next === 'refusing' && server.listening) await stop()
      else if (next !== 'refusing' && !server.listening) await listenAgain()
      // A connection that was kept open would be answered after all.
      else server.closeAllConnections()
    },
    close: () => (server.listening ? stop() : Promise.resolve()),
  }
}
