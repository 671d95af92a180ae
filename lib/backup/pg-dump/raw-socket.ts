import type { Socket } from 'node:net'
import pg from 'pg'
import { connectionOptions, type Session } from '../../platform/db.ts'
import { CaretakerError } from '../../platform/errors.ts'
import { endSession } from '../end-session.ts'
import { release } from '../release.ts'
import { textSettings, textSettingsSql } from '../sessions.ts'

/** A connection that has been authenticated, and over which protocol messages now go as bytes. */
export interface RawSocket {
  /** Sends the bytes of one or more messages; resolves with the reply up to and including ReadyForQuery. */
  exchange(message: Buffer): Promise<Uint8Array<ArrayBuffer>>
  /** Ends a session that was opened for this, also in the middle of a statement; gives a borrowed one back. */
  close(): Promise<void>
}

const query = 0x51
const commandComplete = 0x43
const readyForQuery = 0x5a
const protocolVersion3 = 196_608
const inTransaction = 0x54
const idle = 0x49

interface WireConnection {
  stream: Socket
  on(event: 'parameterStatus', listener: (message: { parameterName: string; parameterValue: string }) => void): void
}

type Parameters = readonly (readonly [string, string])[]

function wireOf(client: pg.ClientBase): WireConnection {
  return (client as unknown as { connection: WireConnection }).connection
}

/**
 * Connects and authenticates as `pg` does (TLS, SCRAM, md5, trust), then takes the socket over. A start-up packet sent
 * over it is answered here, from what the server said at the real start: to whoever sends it this is a new connection.
 */
export async function openRawSocket(databaseUrl: string, ca?: string): Promise<RawSocket> {
  const client = new pg.Client({ ...connectionOptions(databaseUrl, ca), connectionTimeoutMillis: 10_000 })
  const connection = wireOf(client)
  const parameters: [string, string][] = []
  connection.on('parameterStatus', (message) => parameters.push([message.parameterName, message.parameterValue]))
  // After the take-over a lost connection shows on the socket; pg must not report it a second time.
  client.on('error', () => undefined)
  try {
    await client.connect()
  } catch (cause) {
    throw new CaretakerError('database_unavailable', 'The database refused the connection that reads the schema.', { cause })
  }
  const wire = converse(client)
  let started = false
  return {
    async exchange(message) {
      if (!isStartup(message)) return wire.exchange(message)
      // To the sender this is a new connection: nothing of the one before may be left. And what is written of the same schema is the same.
      const anew = started ? ['rollback', 'discard all'] : []
      for (const sql of [...anew, textSettingsSql()]) await wire.exchange(queryMessage(sql))
      started = true
      return startupReply(parameters.map(([name, value]) => [name, textSettings[name.toLowerCase()] ?? value]))
    },
    async close() {
      const { stream } = connection
      if (stream.destroyed) return
      if (wire.busy()) await endSession(client)
      else stream.end(Buffer.from([0x58, 0, 0, 0, 4]))
    },
  }
}

/**
 * Takes the socket of a session over that is in a transaction, with its snapshot and its locks: whoever speaks over it works in that
 * one. What would begin one of its own is answered here.
 */
export async function borrowSession(session: Session): Promise<RawSocket> {
  const parameters = await session.query<{ name: string; value: string }>(
    `select name, setting as value from pg_catalog.pg_settings
     where name in ('server_version', 'server_encoding', 'client_encoding', 'is_superuser', 'in_hot_standby', 'DateStyle', 'IntervalStyle',
       'TimeZone', 'integer_datetimes', 'standard_conforming_strings', 'default_transaction_read_only', 'application_name')
     union all select 'session_authorization', session_user`,
  )
  const { stream } = wireOf(session.client)
  const listeners = stream.listeners('data') as ((chunk: Buffer) => void)[]
  const wire = converse(session.client)
  let started = false
  return {
    async exchange(message) {
      if (isStartup(message)) {
        if (started) await wire.exchange(queryMessage('deallocate all'))
        started = true
        return startupReply(parameters.map(({ name, value }) => [name, value]))
      }
      const begins = /^(BEGIN|SET)(?: TRANSACTION .*)?$/s.exec(queryOf(message) ?? '')
      return begins === null ? wire.exchange(message) : completed(begins[1] as string)
    },
    close() {
      wire.end()
      for (const listener of listeners) stream.on('data', listener)
      return Promise.resolve()
    },
  }
}

/** Bytes to the server and from it, past pg. */
function converse(client: pg.ClientBase) {
  const socket = wireOf(client).stream
  let received: Buffer<ArrayBuffer>[] = []
  let waiting: { done(reply: Uint8Array<ArrayBuffer>): void; fail(error: Error): void } | undefined
  let scanner = new MessageScanner()

  const hear = (chunk: Buffer<ArrayBuffer>) => {
    received.push(chunk)
    if (!scanner.endsReady(chunk) || waiting === undefined) return
    const reply = joined(received)
    received = []
    scanner = new MessageScanner()
    const { done } = waiting
    waiting = undefined
    done(reply)
  }
  const lost = (error?: Error) => {
    waiting?.fail(error ?? new Error('the connection was closed'))
    waiting = undefined
  }
  const closed = () => lost()
  socket.removeAllListeners('data')
  socket.on('data', hear)
  socket.on('error', lost)
  socket.on('close', closed)
  socket.resume()

  return {
    exchange(message: Buffer): Promise<Uint8Array<ArrayBuffer>> {
      if (socket.destroyed) return Promise.reject(new Error('the connection was closed'))
      return new Promise((done, fail) => {
        waiting = { done, fail }
        socket.write(message)
      })
    },
    busy: () => waiting !== undefined,
    end() {
      socket.off('data', hear).off('error', lost).off('close', closed)
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

/** The statement of a message that is one simple query. */
function queryOf(message: Buffer): string | undefined {
  return message[0] === query && message.readUInt32BE(1) === message.length - 1
    ? message.toString('utf8', 5, message.length - 1)
    : undefined
}

function queryMessage(sql: string): Buffer {
  return messageOf(query, Buffer.from(`${sql}\0`))
}

function messageOf(kind: number, body: Uint8Array): Buffer {
  const head = Buffer.alloc(5)
  head[0] = kind
  head.writeUInt32BE(body.length + 4, 1)
  return Buffer.concat([head, body])
}

function completed(tag: string): Uint8Array<ArrayBuffer> {
  const done = messageOf(commandComplete, Buffer.from(`${tag}\0`))
  return new Uint8Array(Buffer.concat([done, messageOf(readyForQuery, Buffer.from([inTransaction]))]))
}

function startupReply(parameters: Parameters): Uint8Array<ArrayBuffer> {
  const authenticationOk = messageOf(0x52, Buffer.alloc(4))
  const keyData = messageOf(0x4b, Buffer.alloc(8))
  const statuses = parameters.map(([name, value]) => messageOf(0x53, Buffer.from(`${name}\0${value}\0`)))
  return new Uint8Array(Buffer.concat([authenticationOk, ...statuses, keyData, messageOf(readyForQuery, Buffer.from([idle]))]))
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
