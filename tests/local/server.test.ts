import { once } from 'node:events'
import { connect } from 'node:net'
import { afterEach, describe, expect, it } from 'vitest'
import { type Handle, type LocalServer, type LocalServerOptions, serve } from '../../local/server.ts'

const open: LocalServer[] = []
async function start(handle: Handle, options: Partial<LocalServerOptions> = {}): Promise<LocalServer> {
  const server = await serve({ port: 0, handle, ...options })
  open.push(server)
  return server
}
afterEach(async () => {
  for (const server of open.splice(0)) await server.stop(0)
})

describe('serve', () => {
  it('hands bytes over as they came, and cookies one by one', async () => {
    const server = await start(async (request) => {
      const headers = new Headers({ 'x-method': request.method, 'x-path': new URL(request.url).pathname })
      headers.append('set-cookie', 'a=1')
      headers.append('set-cookie', 'b=2')
      return new Response(await request.arrayBuffer(), { status: 201, headers })
    })
    const body = Uint8Array.from({ length: 256 }, (_, index) => index)
    const response = await fetch(`${server.url}/a%20b?c=d`, { method: 'PUT', body })
    expect([response.status, response.headers.get('x-method'), response.headers.get('x-path')]).toEqual([201, 'PUT', '/a%20b'])
    expect(response.headers.getSetCookie()).toEqual(['a=1', 'b=2'])
    expect(new Uint8Array(await response.arrayBuffer())).toEqual(body)
  })

  it('answers on 127.0.0.1 and on localhost', async () => {
    const server = await start(async () => new Response('here'))
    for (const host of ['127.0.0.1', 'localhost']) expect(await (await fetch(`http://${host}:${server.port}/`)).text()).toBe('here')
  })

  it.each([
    ['with its length said', false],
    ['in chunks', true],
  ])('refuses a body over the limit, %s', async (_how, chunked) => {
    const server = await start(async (request) => Response.json({ bytes: (await request.arrayBuffer()).byteLength }), {
      bodyLimit: () => 1000,
    })
    const send = (bytes: number) =>
      fetch(server.url, {
        method: 'POST',
        body: chunked ? new Blob([new Uint8Array(bytes)]).stream() : new Uint8Array(bytes),
        duplex: 'half',
      })
    expect(await (await send(1000)).json()).toEqual({ bytes: 1000 })
    const refused = await send(1001)
    expect(refused.status).toBe(413)
    expect(await refused.json()).toMatchObject({ code: 'payload_too_large' })
  })

  it('streams, and tells the handler when the client goes away', async () => {
    const gone = Promise.withResolvers<unknown>()
    const server = await start(async (request) => {
      request.signal.addEventListener('abort', () => gone.resolve(request.signal.reason))
      return new Response(
        new ReadableStream({
          pull: async (controller) => {
            controller.enqueue(new TextEncoder().encode('tick\n'))
            await new Promise((resolve) => setImmediate(resolve))
          },
        }),
      )
    })
    const socket = connect(server.port, '127.0.0.1')
    socket.write('GET / HTTP/1.1\r\nHost: localhost\r\n\r\n')
    await once(socket, 'data')
    socket.destroy()
    expect(await gone.promise).toMatchObject({ name: 'AbortError' })
  })

  it('answers 500 for what a handler throws, without saying it', async () => {
    const errors: unknown[] = []
    const server = await start(() => Promise.reject(new Error('secret detail')), { onError: (error) => errors.push(error) })
    const response = await fetch(server.url)
    expect(response.status).toBe(500)
    expect(await response.text()).not.toContain('secret detail')
    expect(errors).toHaveLength(1)
  })

  it('says which port is taken and what to do', async () => {
    const server = await start(async () => new Response('first'))
    await expect(serve({ port: server.port, handle: async () => new Response('second') })).rejects.toMatchObject({
      code: 'local_stack',
      detail: expect.stringMatching(new RegExp(`^Port ${server.port} is taken.*--port ${server.port + 1}$`)),
    })
  })

  it('lets a running request finish before it stops', async () => {
    const answer = Promise.withResolvers<Response>()
    const arrived = Promise.withResolvers<void>()
    const server = await start(() => {
      arrived.resolve()
      return answer.promise
    })
    const response = fetch(server.url)
    await arrived.promise
    const stopped = server.stop()
    answer.resolve(new Response('finished'))
    expect(await (await response).text()).toBe('finished')
    await stopped
    await expect(fetch(server.url)).rejects.toThrow()
  })
})
