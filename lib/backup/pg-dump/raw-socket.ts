import type { Socket } from 'node:net'
import pg from 'pg'
import { connectionOptions } from '../../platform/db.ts'
import { CaretakerError } from '../../platform/errors.ts'
import { release } from '../release.ts'

/** A connection that has been authenticated, and over which protocol messages now go as bytes. */
export interface RawSocket {
  /** Sends the bytes of one or more messages; resolves with the reply up to and including ReadyForQuery. */
  exchange(message: Buffer): Promise<Uint8Array<ArrayBuffer>>
  destroy(): void
}

const readyForQuery = 0x5a
const protocolVersion3 = 196_608

interface WireConnection {
  stream: Socket
  on(event: 'parameterStatus', listener: (message: { parameterName: string; parameterValue: string }) => void): void
}

/**
 * Connects and authenticates as `pg` does (TLS, SCRAM, md5, trust), then takes the socket over. A start-up packet sent
 * over it is answered here, from what the server said at the real start: to whoever sends it this is a new connection.
 */
export async function openRawSocket(databaseUrl: string, ca?: string): Promise<RawSocket> {
  const client = new pg.Client({ ...connectionOptions(databaseUrl, ca), connectionTimeoutMillis: 10_000 })
  const connection = (client as unknown as { connection: WireConnection }).connection
  const parameters: [string, string][] = []
  connection.on('parameterStatus', (message) => parameters.push([message.parameterName, message.parameterValue]))
  // After the take-over a lost connection shows on the socket; pg must not report it a second time.
  client.on('error', () => undefined)
  try {
    await client.connect()
  } catch (cause) {
    throw new CaretakerError('database_unavailable', 'The database refused the connection that reads the schema.', { cause })
  }
  const socket = connection.stream
  socket.removeAllListeners('data')
  return rawSocket(socket, parameters)
}

function rawSocket(socket: Socket, parameters: readonly [string, string][]): RawSocket {
  let received: Buffer<ArrayBuffer>[] = []
  let waiting: { done(reply: Uint8Array<ArrayBuffer>): void; fail(error: Error): void } | undefined
  let scanner = new MessageScanner()

  socket.on('data', (chunk: Buffer<ArrayBuffer>) => {
    received.push(chunk)
    if (!scanner.endsReady(chunk) || waiting === undefined) return
    const reply = joined(received)
    received = []
    scanner = new MessageScanner()
    const { done } = waiting
    waiting = undefined
    done(reply)
  })
  const lost = (error?: Error) => {
    waiting?.fail(error ?? new Error('the connection was closed'))
    waiting = undefined
  }
  socket.on('error', lost)
  socket.on('close', () => lost())
  socket.resume()

  const exchange = (message: Buffer): Promise<Uint8Array<ArrayBuffer>> => {
    if (socket.destroyed) return Promise.reject(new Error('the connection was closed'))
    return new Promise((done, fail) => {
      waiting = { done, fail }
      socket.write(message)
    })
  }
  let started = false

  return {
    async exchange(message) {
      if (!isStartup(message)) return exchange(message)
      // To the sender this is a new connection: nothing of the one before may be left.
      if (started) for (const sql of ['rollback', 'discard all']) await exchange(queryMessage(sql))
      started = true
      return startupReply(parameters)
    },
    destroy() {
      if (!socket.destroyed) socket.end(Buffer.from([0x58, 0, 0, 0, 4]))
    },
  }
}

/** In memory of its own, which can be handed to another thread. The pieces are gone then: replies of many tables are megabytes. */
function joined(pieces: readonly Buffer<ArrayBuffer>[]): Uint8Array<ArrayBuffer> {
  const whole = new Uint8Array(pieces.reduce((sum, piece) => sum + piece.length, 0))
  let at = 0
  for (const piece of pieces) {
    whole.set(piece, at)
    at += piece.length
    release(piece)
  }
  return whole
}

function isStartup(message: Buffer): boolean {
  return message.length >= 8 && message.readUInt32BE(0) === message.length && message.readUInt32BE(4) >>> 16 === protocolVersion3 >>> 16
}

function queryMessage(sql: string): Buffer {
  const body = Buffer.from(`${sql}\0`)
  const head = Buffer.alloc(5)
  head[0] = 0x51
  head.writeUInt32BE(body.length + 4, 1)
  return Buffer.concat([head, body])
}

function startupReply(parameters: readonly [string, string][]): Uint8Array<ArrayBuffer> {
  const authenticationOk = [0x52, 0, 0, 0, 8, 0, 0, 0, 0]
  const keyData = [0x4b, 0, 0, 0, 12, 0, 0, 0, 0, 0, 0, 0, 0]
  const ready = [readyForQuery, 0, 0, 0, 5, 0x49]
  const statuses = parameters.map(([name, value]) => {
    const body = Buffer.from(`${name}\0${value}\0`)
    const head = Buffer.alloc(5)
    head[0] = 0x53
    head.writeUInt32BE(body.length + 4, 1)
    return Buffer.concat([head, body])
  })
  return new Uint8Array(Buffer.concat([Buffer.from(authenticationOk), ...statuses, Buffer.from(keyData), Buffer.from(ready)]))
}

/** Follows the boundaries of protocol messages through chunks that are cut anywhere. */
class MessageScanner {
  readonly #head = Buffer.alloc(5)
  #headBytes = 0
  #bodyBytes = 0

  /** True when `chunk` ends with a complete ReadyForQuery. */
  endsReady(chunk: Buffer): boolean {
    let at = 0
    while (at < chunk.length) {
      if (this.#headBytes < 5) {
        const taken = chunk.copy(this.#head, this.#headBytes, at, at + 5 - this.#headBytes)
        this.#headBytes += taken
        at += taken
        if (this.#headBytes < 5) return false
        this.#bodyBytes = this.#head.readUInt32BE(1) - 4
      }
      const taken = Math.min(this.#bodyBytes, chunk.length - at)
      this.#bodyBytes -= taken
      at += taken
      if (this.#bodyBytes > 0) return false
      this.#headBytes = 0
      if (this.#head[0] === readyForQuery && at === chunk.length) return true
    }
    return false
  }
}
