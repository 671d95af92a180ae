import type { Socket } from 'node:net'
import { Readable } from 'node:stream'
import type pg from 'pg'

/** What of pg's connection a query of its own kind may use. */
interface WireConnection {
  stream: Socket
  query(text: string): void
}

const copyData = 0x64
const errorResponse = 0x45
const copyDone = 0x63

/**
 * Runs a `COPY … TO STDOUT` and reads what it sends, in chunks of `chunkBytes`. A message a row arrives, and no object is
 * made for any of them: bytes are copied from the socket's buffers into few large ones. Reading stops when nobody takes
 * them, and with it, through the socket, the server.
 */
export function copyOutStream(client: pg.ClientBase, sql: string, chunkBytes = 64 * 1024): CopyOut {
  return client.query(new CopyOut(sql, chunkBytes) as unknown as pg.Submittable) as unknown as CopyOut
}

class CopyOut extends Readable {
  /** Known once the stream has ended. */
  rowCount = 0
  readonly #sql: string
  readonly #chunkBytes: number
  #connection: WireConnection | undefined
  #parse: ((chunk: Buffer) => void) | undefined
  readonly #head = Buffer.alloc(5)
  #headBytes = 0
  #bodyBytes = 0
  #out: Buffer
  #outBytes = 0
  #done = false

  constructor(sql: string, chunkBytes: number) {
    super({ highWaterMark: chunkBytes })
    this.#sql = sql
    this.#chunkBytes = chunkBytes
    this.#out = Buffer.allocUnsafeSlow(chunkBytes)
  }

  /** Called by pg when it is this query's turn. */
  submit(connection: WireConnection): void {
    this.#connection = connection
    this.#parse = connection.stream.listeners('data')[0] as (chunk: Buffer) => void
    connection.stream.removeListener('data', this.#parse)
    connection.stream.on('data', this.#take)
    connection.query(this.#sql)
  }

  override _read(): void {
    this.#connection?.stream.resume()
  }

  override _destroy(error: Error | null, done: (error?: Error | null) => void): void {
    // In the middle of a COPY nothing else can be said on this connection, and the server may have gigabytes to send.
    if (!this.#done) this.#connection?.stream.destroy()
    done(error)
  }

  readonly #take = (chunk: Buffer): void => {
    let at = 0
    while (at < chunk.length) {
      if (this.#headBytes < 5) {
        const taken = Math.min(5 - this.#headBytes, chunk.length - at)
        // Most heads lie in one chunk; a call into Buffer for each of them would cost more than the rows.
        for (let index = 0; index < taken; index++) this.#head[this.#headBytes + index] = chunk[at + index] as number
        this.#headBytes += taken
        at += taken
        if (this.#headBytes < 5) return
        this.#bodyBytes = this.#head.readUInt32BE(1) - 4
        // pg reads the error and what follows; it has not seen the head.
        if (this.#head[0] === errorResponse) {
          this.#handBack(Buffer.concat([this.#head, chunk.subarray(at)]))
          return
        }
      }
      const taken = Math.min(this.#bodyBytes, chunk.length - at)
      if (this.#head[0] === copyData) this.#keep(chunk, at, at + taken)
      at += taken
      this.#bodyBytes -= taken
      if (this.#bodyBytes > 0) return
      this.#headBytes = 0
      if (this.#head[0] === copyDone) {
        if (this.#outBytes > 0) this.push(this.#out.subarray(0, this.#outBytes))
        this.#handBack(chunk.subarray(at))
        return
      }
    }
  }

  #keep(chunk: Buffer, from: number, to: number): void {
    let at = from
    while (at < to) {
      const copied = chunk.copy(this.#out, this.#outBytes, at, to)
      at += copied
      this.#outBytes += copied
      if (this.#outBytes < this.#chunkBytes) return
      const full = this.#out
      this.#out = Buffer.allocUnsafeSlow(this.#chunkBytes)
      this.#outBytes = 0
      if (!this.push(full)) this.#connection?.stream.pause()
    }
  }

  /** The rest of the conversation is pg's again. */
  #handBack(rest: Buffer): void {
    this.#done = true
    const { stream } = this.#connection as WireConnection
    const parse = this.#parse as (chunk: Buffer) => void
    stream.removeListener('data', this.#take)
    stream.on('data', parse)
    stream.resume()
    if (rest.length > 0) parse(rest)
  }

  handleError(error: Error): void {
    this.destroy(error)
  }

  handleCommandComplete(message: { text?: string }): void {
    this.rowCount = Number(/^COPY (\d+)/.exec(message.text ?? '')?.[1] ?? 0)
  }

  handleReadyForQuery(): void {
    this.push(null)
  }
}

export type { CopyOut }
