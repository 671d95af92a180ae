import type { Socket } from 'node:net'
import { Readable } from 'node:stream'
import type pg from 'pg'
import { type BulkSocket, isBulkSocket } from '../platform/bulk-client.ts'
import { release } from './release.ts'

/** What of pg's connection a query of its own kind may use. */
interface WireConnection {
  stream: Socket
  query(text: string): void
}

const copyData = 0x64
const errorResponse = 0x45
const copyDone = 0x63
const headBytes = 5

const blockBytes = 512 * 1024
/** The first is smaller: most tables of a database of many are. */
const firstBlockBytes = 32 * 1024
/** Filled and not given back. One more is being filled. */
const mostWaiting = 2

/** What a `COPY … TO STDOUT` sends. Every block is lent: it is good until the next one is asked for. To be read once. */
export interface CopyOut extends AsyncIterable<Buffer> {
  /** Known at the end. */
  readonly rowCount: number
  /** Ends it from outside. Before its end the connection is closed too: nothing else could be said on it. */
  destroy(error?: Error): void
}

/**
 * Runs a `COPY … TO STDOUT` and lends what it sends, in blocks of half a megabyte that it uses again and again. A message a
 * row arrives, and no object is made for any of them. Reading stops when nobody takes the blocks, and with it, through
 * the socket, the server.
 */
export function copyOutBlocks(client: pg.ClientBase, sql: string): CopyOut {
  return client.query(new CopyOutQuery(sql) as unknown as pg.Submittable) as unknown as CopyOut
}

/** The same as a stream, in chunks that are the reader's to keep. */
export function copyOutStream(client: pg.ClientBase, sql: string): Readable {
  const copy = copyOutBlocks(client, sql)
  const kept = async function* () {
    for await (const block of copy) for (let at = 0; at < block.length; at += 65_536) yield Buffer.from(block.subarray(at, at + 65_536))
  }
  const stream = Readable.from(kept(), { objectMode: false, highWaterMark: 65_536 })
  // A stream that is destroyed waits for its generator, which may wait for the server.
  stream.once('close', () => copy.destroy())
  return stream
}

class CopyOutQuery implements CopyOut {
  rowCount = 0
  readonly #sql: string
  #connection: WireConnection | undefined
  #parse: ((chunk: Buffer) => void) | undefined

  readonly #head = Buffer.alloc(headBytes)
  #headBytes = 0
  #kind = 0
  #bodyBytes = 0

  readonly #empty: Buffer[] = []
  readonly #full: Buffer[] = []
  #lent = false
  #block: Buffer = Buffer.alloc(0)
  #blockBytes = 0

  /** CopyDone or an error has come: the connection is pg's again. */
  #handedBack = false
  #ended = false
  #error: Error | undefined
  #wake: () => void = () => undefined

  constructor(sql: string) {
    this.#sql = sql
  }

  /** Called by pg when it is this query's turn. */
  submit(connection: WireConnection): void {
    this.#connection = connection
    if (this.#error !== undefined) {
      connection.stream.destroy()
      return
    }
    const { stream } = connection
    this.#parse = stream.listeners('data')[0] as (chunk: Buffer) => void
    stream.removeListener('data', this.#parse)
    stream.on('data', this.#read)
    if (isBulkSocket(stream)) stream.lends = true
    connection.query(this.#sql)
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<Buffer, void, undefined> {
    try {
      for (;;) {
        const block = this.#full.shift()
        if (block !== undefined) {
          this.#lent = true
          yield block
          this.#lent = false
          this.#takeBack(block)
        } else if (this.#error !== undefined) throw this.#error
        else if (this.#ended) return
        else
          await new Promise<void>((wake) => {
            this.#wake = wake
          })
      }
    } finally {
      this.destroy()
    }
  }

  destroy(error?: Error): void {
    if (this.#ended) return
    this.#error ??= error ?? new Error('the COPY was stopped')
    this.#full.length = 0
    if (!this.#handedBack) this.#connection?.stream.destroy()
    this.#wake()
  }

  readonly #read = (chunk: Buffer<ArrayBuffer>): void => {
    const stream = this.#connection?.stream
    const lent = stream !== undefined && isBulkSocket(stream)
    this.#take(chunk)
    // Made for this one read, and nobody else listens.
    if (!lent) release(chunk)
    else if (!this.#handedBack) gather(stream, chunk.length, () => !this.#handedBack && !this.#isFull())
  }

  #take(chunk: Buffer): void {
    const { length } = chunk
    let at = 0
    while (at < length) {
      if (this.#headBytes < headBytes) {
        at = this.#takeHead(chunk, at)
        if (this.#headBytes < headBytes) return
        // pg reads the error and what follows; it has not seen the head.
        if (this.#kind === errorResponse) {
          this.#handBack(Buffer.concat([this.#head, chunk.subarray(at)]))
          return
        }
      }
      const end = at + Math.min(this.#bodyBytes, length - at)
      if (this.#kind === copyData) this.#keep(chunk, at, end)
      this.#bodyBytes -= end - at
      at = end
      if (this.#bodyBytes > 0) return
      this.#headBytes = 0
      if (this.#kind === copyDone) {
        if (this.#blockBytes > 0) this.#pass(this.#block.subarray(0, this.#blockBytes))
        this.#handBack(chunk.subarray(at))
        return
      }
    }
  }

  /** Where the body begins, or the end of the chunk. There is a head for every row: calls into Buffer would cost more than all of this. */
  #takeHead(chunk: Buffer, from: number): number {
    let at = from
    while (this.#headBytes < headBytes && at < chunk.length) this.#head[this.#headBytes++] = chunk[at++] as number
    if (this.#headBytes === headBytes) {
      const head = this.#head
      this.#kind = head[0] as number
      this.#bodyBytes = (((head[1] as number) << 24) | ((head[2] as number) << 16) | ((head[3] as number) << 8) | (head[4] as number)) - 4
    }
    return at
  }

  #keep(chunk: Buffer, from: number, to: number): void {
    let at = from
    while (at < to) {
      if (this.#blockBytes === this.#block.length) this.#turn()
      const copied = chunk.copy(this.#block, this.#blockBytes, at, to)
      at += copied
      this.#blockBytes += copied
    }
  }

  #turn(): void {
    const { length } = this.#block
    if (length > 0) this.#pass(this.#block)
    this.#block = this.#empty.pop() ?? Buffer.allocUnsafeSlow(length === 0 ? firstBlockBytes : blockBytes)
    this.#blockBytes = 0
  }

  #pass(block: Buffer): void {
    this.#full.push(block)
    // What is left of the chunk fits into the block that is filled now.
    if (this.#isFull()) this.#connection?.stream.pause()
    this.#wake()
  }

  #isFull(): boolean {
    return this.#full.length + (this.#lent ? 1 : 0) >= mostWaiting
  }

  #takeBack(block: Buffer): void {
    if (block.length === blockBytes && this.#empty.length < mostWaiting) this.#empty.push(block)
    if (!this.#handedBack) this.#connection?.stream.resume()
  }

  /** The rest of the conversation is pg's again. */
  #handBack(rest: Buffer): void {
    this.#handedBack = true
    const { stream } = this.#connection as WireConnection
    const parse = this.#parse as (chunk: Buffer) => void
    stream.removeListener('data', this.#read)
    stream.on('data', parse)
    stream.resume()
    if (isBulkSocket(stream)) stream.lends = false
    // pg may keep what is not a whole message yet.
    if (rest.length > 0) parse(Buffer.from(rest))
  }

  handleError(error: Error): void {
    this.#error ??= error
    this.#ended = true
    this.#wake()
  }

  handleCommandComplete(message: { text?: string }): void {
    this.rowCount = Number(/^COPY (\d+)/.exec(message.text ?? '')?.[1] ?? 0)
  }

  handleReadyForQuery(): void {
    this.#ended = true
    this.#wake()
  }
}

/**
 * The server sends 8 KiB at a time. Woken for each of them, a reader that is faster spends most of its time on being woken: so after a
 * small read it waits a millisecond, in which the system gathers what comes. That halves the work of reading (measured).
 */
function gather(stream: BulkSocket, read: number, mayGoOn: () => boolean): void {
  if (read >= stream.readBytes / 2 || stream.isPaused()) return
  stream.pause()
  setTimeout(() => {
    if (mayGoOn()) stream.resume()
  }, 1)
}
