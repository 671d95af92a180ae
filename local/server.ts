import { once } from 'node:events'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo, Socket } from 'node:net'
import { Readable } from 'node:stream'
import { CaretakerError } from '../lib/platform/errors.ts'

export type Handle = (request: Request) => Promise<Response>

export interface LocalServer {
  readonly port: number
  /** `http://localhost:PORT` */
  readonly url: string
  /** Takes no more requests, lets running ones finish for up to `graceMs`, then cuts them off. */
  stop(graceMs?: number): Promise<void>
}

export interface LocalServerOptions {
  /** 0: any free port. */
  port: number
  handle: Handle
  /** Largest body, bytes, by path. Default 6 MB, as Netlify has it. */
  bodyLimit?: (pathname: string) => number
  /** Told of what a handler threw: the client only hears that it was a 500. */
  onError?: (error: unknown) => void
}

export const netlifyBodyLimit = 6 * 1024 * 1024

/**
 * Serves web-standard handlers on the loopback addresses. Bodies stream both ways; a client that goes away aborts
 * `request.signal`.
 * @throws {CaretakerError} `local_stack` when the port is taken
 */
export async function serve(options: LocalServerOptions): Promise<LocalServer> {
  const limit = options.bodyLimit ?? (() => netlifyBodyLimit)
  const open = new Set<Socket>()
  const busy = new Set<ServerResponse>()
  let base = ''
  const answer = (incoming: IncomingMessage, outgoing: ServerResponse): void => {
    busy.add(outgoing)
    outgoing.once('close', () => busy.delete(outgoing))
    void respond(incoming, outgoing, base, options.handle, limit).catch((error: unknown) => {
      options.onError?.(error)
      if (outgoing.headersSent) outgoing.destroy()
      else problem(outgoing, 500, 'internal', 'A defect; the log has the cause.')
    })
  }
  const listen = async (port: number, host: string) => {
    const server = createServer({ requestTimeout: 0 }, answer)
    server.on('connection', (socket: Socket) => {
      open.add(socket)
      socket.once('close', () => open.delete(socket))
    })
    server.listen(port, host)
    await once(server, 'listening')
    return server
  }
  const first = await listen(options.port, '127.0.0.1').catch((cause: NodeJS.ErrnoException) => {
    throw portProblem(options.port, cause)
  })
  const { port } = first.address() as AddressInfo
  // `localhost` may mean ::1 first. A machine without IPv6 does with the one.
  const second = await listen(port, '::1').catch((cause: NodeJS.ErrnoException) => {
    if (cause.code === 'EADDRINUSE') {
      first.close()
      throw portProblem(port, cause)
    }
    return null
  })
  base = `http://localhost:${port}`
  return {
    port,
    url: base,
    async stop(graceMs = 5_000) {
      const servers = second === null ? [first] : [first, second]
      const closed = Promise.all(servers.map((server) => new Promise((resolve) => server.close(resolve))))
      for (const server of servers) server.closeIdleConnections()
      for (const response of busy) if (!response.headersSent) response.setHeader('connection', 'close')
      const cut = setTimeout(() => {
        for (const socket of open) socket.destroy()
      }, graceMs)
      await closed
      clearTimeout(cut)
    },
  }
}

function portProblem(port: number, cause: NodeJS.ErrnoException): CaretakerError {
  if (cause.code === 'EADDRINUSE')
    return new CaretakerError(
      'local_stack',
      `Port ${port} is taken by another program. Stop it, or choose another port: npm start -- --port ${port + 1}`,
      { cause },
    )
  if (cause.code === 'EACCES')
    return new CaretakerError('local_stack', `This user may not listen on port ${port}. Choose one above 1023: npm start -- --port 8888`, {
      cause,
    })
  return new CaretakerError('local_stack', `Cannot listen on port ${port} (${cause.code}).`, { cause })
}

async function respond(
  incoming: IncomingMessage,
  outgoing: ServerResponse,
  base: string,
  handle: Handle,
  limitOf: (pathname: string) => number,
): Promise<void> {
  const gone = new AbortController()
  outgoing.once('close', () => {
    if (!outgoing.writableFinished) gone.abort(new DOMException('The client closed the connection.', 'AbortError'))
  })
  // The path as it was sent: `new URL` against the address would take "//evil" for a host.
  const target = incoming.url?.startsWith('/') === true ? incoming.url : '/'
  const url = new URL(`http://${hostOf(incoming) ?? new URL(base).host}${target}`)
  const limit = limitOf(url.pathname)
  if (Number(incoming.headers['content-length'] ?? 0) > limit) {
    problem(outgoing, 413, 'payload_too_large', `The body is larger than ${limit} bytes.`)
    return
  }
  const tooLarge = new CaretakerError('payload_too_large', `The body is larger than ${limit} bytes.`)
  const request = toRequest(incoming, url, gone.signal, limit, tooLarge)
  let response: Response
  try {
    response = await handle(request)
  } catch (error) {
    if (gone.signal.aborted) return
    if (error !== tooLarge && (error as Error).cause !== tooLarge) throw error
    problem(outgoing, 413, 'payload_too_large', tooLarge.detail)
    return
  }
  await send(response, outgoing, incoming.method === 'HEAD', gone.signal)
}

function hostOf(incoming: IncomingMessage): string | null {
  const host = incoming.headers.host
  return host !== undefined && /^[\w.:[\]-]+$/.test(host) ? host : null
}

function toRequest(incoming: IncomingMessage, url: URL, signal: AbortSignal, limit: number, tooLarge: CaretakerError): Request {
  const headers = new Headers()
  for (let at = 0; at < incoming.rawHeaders.length; at += 2)
    headers.append(incoming.rawHeaders[at] ?? '', incoming.rawHeaders[at + 1] ?? '')
  // Which client it is, as the hosts' proxies say it; what the client itself claims is dropped.
  headers.set('x-forwarded-for', incoming.socket.remoteAddress ?? '127.0.0.1')
  headers.set('x-forwarded-proto', 'http')
  const method = incoming.method ?? 'GET'
  if (method === 'GET' || method === 'HEAD') return new Request(url, { method, headers, signal })
  return new Request(url, { method, headers, signal, body: limited(incoming, limit, tooLarge), duplex: 'half' })
}

function limited(incoming: IncomingMessage, limit: number, tooLarge: CaretakerError): ReadableStream<Uint8Array> {
  let bytes = 0
  const source = Readable.toWeb(incoming) as ReadableStream<Uint8Array>
  return source.pipeThrough(
    new TransformStream<Uint8Array, Uint8Array>({
      transform(chunk, controller) {
        bytes += chunk.byteLength
        if (bytes > limit) controller.error(tooLarge)
        else controller.enqueue(chunk)
      },
    }),
  )
}

async function send(response: Response, outgoing: ServerResponse, headOnly: boolean, gone: AbortSignal): Promise<void> {
  outgoing.statusCode = response.status
  for (const [name, value] of response.headers) if (name !== 'set-cookie') outgoing.setHeader(name, value)
  const cookies = response.headers.getSetCookie()
  if (cookies.length > 0) outgoing.setHeader('set-cookie', cookies)
  if (response.body === null || headOnly) {
    await response.body?.cancel()
    outgoing.end()
    return
  }
  const reader = response.body.getReader()
  const cancel = () => void reader.cancel(gone.reason).catch(() => undefined)
  gone.addEventListener('abort', cancel, { once: true })
  // Listened for once: a long body drains many times.
  const closed = once(outgoing, 'close').catch(() => undefined)
  for (;;) {
    const { done, value } = await reader.read()
    if (done || gone.aborted) break
    if (!outgoing.write(value)) await Promise.race([once(outgoing, 'drain').catch(() => undefined), closed])
  }
  outgoing.end()
}

function problem(outgoing: ServerResponse, status: number, code: string, detail: string): void {
  // The rest of a refused body is not read: the connection ends here.
  outgoing.writeHead(status, { 'content-type': 'application/problem+json', connection: 'close' })
  outgoing.end(JSON.stringify({ type: 'about:blank', status, title: code.replaceAll('_', ' '), code, detail }))
}
