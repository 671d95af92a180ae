import { type ChildProcess, spawn } from 'node:child_process'
import { createHash, randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { createServer } from 'node:http'
import { type AddressInfo, connect, type Socket } from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'
import { freePort } from '../../local/postgres.ts'

export interface UpstashServer {
  url: string
  token: string
  /** The next request gets this instead of an answer from Redis. */
  fail(fault: 'hang' | 'cut' | { status: number; body: string }): void
  close(): Promise<void>
}

/** Upstash's REST interface over a real redis-server that is started for it and keeps nothing on disk. */
export async function startUpstashServer(): Promise<UpstashServer> {
  const port = await freePort()
  const redis = spawn('redis-server', ['--port', String(port), '--bind', '127.0.0.1', '--save', '', '--appendonly', 'no'], {
    stdio: 'ignore',
  })
  const connection = await connectWhenReady(redis, port)
  const token = randomBytes(16).toString('hex')
  const faults: Parameters<UpstashServer['fail']>[0][] = []
  const scripts = new Map<string, string>()
  const server = createServer(async (request, response) => {
    const chunks: Buffer[] = []
    for await (const chunk of request) chunks.push(chunk as Buffer)
    const fault = faults.shift()
    if (fault === 'hang') return
    if (fault === 'cut') return request.socket.destroy()
    const answer = (status: number, body: unknown) =>
      response.writeHead(status, { 'content-type': 'application/json' }).end(typeof body === 'string' ? body : JSON.stringify(body))
    if (fault !== undefined) return answer(fault.status, fault.body)
    if (request.headers.authorization !== `Bearer ${token}`) return answer(401, { error: 'WRONGPASS invalid or missing auth token' })
    const encode = request.headers['upstash-encoding'] === 'base64' ? inBase64 : (value: Reply) => value
    const run = async (command: unknown[]) => {
      const reply = await connection.send(withoutFlags(command.map(String), scripts))
      return reply instanceof Error ? { error: reply.message } : { result: encode(reply) }
    }
    const body = JSON.parse(Buffer.concat(chunks).toString()) as unknown[]
    if (request.url === '/pipeline') return answer(200, await Promise.all((body as unknown[][]).map(run)))
    const outcome = await run(body)
    return answer('error' in outcome ? 400 : 200, outcome)
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    token,
    fail: (fault) => void faults.push(fault),
    async close() {
      server.closeAllConnections()
      await new Promise((resolve) => server.close(resolve))
      connection.socket.destroy()
      const ended = once(redis, 'exit')
      redis.kill('SIGKILL')
      await ended
    },
  }
}

/** Upstash's scripts begin with a flag that only Upstash knows; Redis gets them without it, and under their own hash. */
function withoutFlags(command: string[], scripts: Map<string, string>): string[] {
  const [name = '', script = '', ...rest] = command
  const sha1 = (text: string) => createHash('sha1').update(text).digest('hex')
  if (/^eval$/i.test(name)) {
    const plain = script.replace(/^#!lua flags=allow-key-locking[^\n]*\n/, '')
    scripts.set(sha1(script), sha1(plain))
    return [name, plain, ...rest]
  }
  if (/^evalsha$/i.test(name)) return [name, scripts.get(script) ?? script, ...rest]
  return command
}

type Reply = string | number | null | Error | Reply[]

function inBase64(value: Reply): Reply {
  if (Array.isArray(value)) return value.map(inBase64)
  return typeof value === 'string' && value !== 'OK' ? Buffer.from(value).toString('base64') : value
}

interface Connection {
  socket: Socket
  send(command: string[]): Promise<Reply>
}

async function connectWhenReady(redis: ChildProcess, port: number): Promise<Connection> {
  for (let attempt = 0; attempt < 200; attempt++) {
    if (redis.exitCode !== null) throw new Error(`redis-server ended with ${redis.exitCode}`)
    const socket = connect(port, '127.0.0.1')
    const connected = await Promise.race([
      once(socket, 'connect').then(
        () => true,
        () => false,
      ),
    ])
    if (connected) return redisConnection(socket)
    socket.destroy()
    await delay(25)
  }
  throw new Error('redis-server did not answer within five seconds')
}

/** Replies come in the order of the commands. https://redis.io/docs/latest/develop/reference/protocol-spec/ */
function redisConnection(socket: Socket): Connection {
  const waiting: ((reply: Reply) => void)[] = []
  let buffered: Buffer = Buffer.alloc(0)
  socket.on('error', () => undefined)
  socket.on('data', (chunk: Buffer) => {
    buffered = Buffer.concat([buffered, chunk])
    for (let parsed = parse(buffered, 0); parsed !== undefined; parsed = parse(buffered, 0)) {
      buffered = buffered.subarray(parsed.end)
      waiting.shift()?.(parsed.reply)
    }
  })
  return {
    socket,
    send: (command) =>
      new Promise((resolve) => {
        waiting.push(resolve)
        socket.write(`*${command.length}\r\n${command.map((word) => `$${Buffer.byteLength(word)}\r\n${word}\r\n`).join('')}`)
      }),
  }
}

function parse(bytes: Buffer, start: number): { reply: Reply; end: number } | undefined {
  const lineEnd = bytes.indexOf('\r\n', start)
  if (lineEnd < 0) return undefined
  const line = bytes.toString('utf8', start + 1, lineEnd)
  const after = lineEnd + 2
  switch (String.fromCharCode(bytes[start] ?? 0)) {
    case '+':
      return { reply: line, end: after }
    case '-':
      return { reply: new Error(line), end: after }
    case ':':
      return { reply: Number(line), end: after }
    case '$': {
      const size = Number(line)
      if (size < 0) return { reply: null, end: after }
      return bytes.length < after + size + 2 ? undefined : { reply: bytes.toString('utf8', after, after + size), end: after + size + 2 }
    }
    case '*': {
      const replies: Reply[] = []
      let end = after
      for (let index = 0; index < Number(line); index++) {
        const parsed = parse(bytes, end)
        if (parsed === undefined) return undefined
        replies.push(parsed.reply)
        end = parsed.end
      }
      return { reply: replies, end }
    }
    default:
      throw new Error(`not a Redis reply: ${line}`)
  }
}
