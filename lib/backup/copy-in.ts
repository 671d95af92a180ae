import { Writable } from 'node:stream'
import type pg from 'pg'
import type { Session } from '../platform/db.ts'
import { CaretakerError } from '../platform/errors.ts'
import { Unframing } from './meter.ts'
import { type Framing, type Opening, readObjectInto } from './object-stream.ts'
import { release } from './release.ts'

/** What of pg's connection a query of its own kind may use. */
interface WireConnection {
  stream: Writable
  query(text: string): void
}

const copyData = 0x64
const copyDone = Buffer.from([0x63, 0, 0, 0, 4])

/**
 * Runs `COPY … FROM STDIN` with the rows that `object` holds. The COPY begins only when the store gives the object.
 * @param onContent is told of every piece of the rows before it is sent; it is not the listener's to keep
 * @returns how many rows the server took
 * @throws what failed first: `backup_corrupt` and `object_store_failed`, or what the server said. Then the connection is of no more use.
 */
export async function copyObjectIn(
  opening: Opening,
  object: { key: string },
  session: Session,
  sql: string,
  framing: Framing,
  onContent: (piece: Buffer) => void,
): Promise<number> {
  const unframing = new Unframing(framing.head, framing.tail)
  let copy: CopyIn | undefined
  const begun = () => {
    copy ??= session.client.query(new CopyIn(sql) as unknown as pg.Submittable) as unknown as CopyIn
    return copy
  }
  const sink = new LendingSink(async (block) => {
    const pieces = cut(object.key, () => unframing.push(block))
    for (const piece of pieces) onContent(piece)
    await begun().send(pieces)
  })
  try {
    await readObjectInto(opening, object, [sink])
    cut(object.key, () => unframing.end())
    return await begun().end()
  } catch (error) {
    copy?.destroy()
    // What the store's stream ends with, when the server was what failed.
    throw copy?.failure ?? error
  }
}

function cut<T>(key: string, work: () => T): T {
  try {
    return work()
  } catch (cause) {
    throw new CaretakerError('backup_corrupt', `${key} ${cause instanceof Error ? cause.message : 'is not as written'}.`, { cause })
  }
}

/** Takes chunks one by one, each for as long as `take` needs it; then its memory is given back. */
class LendingSink extends Writable {
  readonly #take: (chunk: Buffer) => Promise<void>

  constructor(take: (chunk: Buffer) => Promise<void>) {
    super({ highWaterMark: 1 })
    this.#take = take
  }

  override _write(chunk: Buffer<ArrayBuffer>, _encoding: BufferEncoding, done: (error?: Error) => void): void {
    this.#take(chunk).then(
      () => {
        // zlib fills a block from its beginning, in several chunks perhaps, and goes on to another at its end.
        if (chunk.byteOffset + chunk.byteLength === chunk.buffer.byteLength) release(new Uint8Array(chunk.buffer))
        done()
      },
      (error: Error) => done(error),
    )
  }
}

/** A COPY that is fed. What is sent is on its way when `send` returns: its memory may be used again. */
class CopyIn {
  /** What the server said, or how the connection broke. */
  failure: Error | undefined
  readonly #sql: string
  readonly #ready: Promise<void>
  readonly #finished: Promise<void>
  #connection: WireConnection | undefined
  #rowCount = 0
  #begin: () => void = () => undefined
  #finish: () => void = () => undefined
  #fail: (error: Error) => void = () => undefined
  /** Ends the sending that is under way. */
  #interrupt: (error: Error) => void = () => undefined

  constructor(sql: string) {
    this.#sql = sql
    const failed = new Promise<never>((_, fail) => {
      this.#fail = fail
    })
    this.#ready = Promise.race([new Promise<void>((begin) => (this.#begin = begin)), failed])
    this.#finished = Promise.race([new Promise<void>((finish) => (this.#finish = finish)), failed])
    // Whoever waits meets it; it may be that nobody does.
    for (const waiting of [this.#ready, this.#finished]) waiting.catch(() => undefined)
  }

  /** Called by pg when it is this query's turn. */
  submit(connection: WireConnection): void {
    this.#connection = connection
    connection.query(this.#sql)
  }

  /** The pieces as one message. */
  async send(pieces: readonly Buffer[]): Promise<void> {
    await this.#ready
    const { stream } = this.#connection as WireConnection
    const last = pieces.at(-1)
    if (last === undefined) return
    const head = Buffer.alloc(5)
    head[0] = copyData
    head.writeUInt32BE(4 + pieces.reduce((sum, piece) => sum + piece.length, 0), 1)
    await new Promise<void>((done, fail) => {
      this.#interrupt = fail
      stream.cork()
      stream.write(head)
      for (const piece of pieces.slice(0, -1)) stream.write(piece)
      stream.write(last, (error) => (error == null ? done() : fail(error)))
      stream.uncork()
    })
  }

  async end(): Promise<number> {
    await this.#ready
    this.#connection?.stream.write(copyDone)
    await this.#finished
    return this.#rowCount
  }

  /** Closes the connection, unless the COPY has ended: nothing else could be said on it. */
  destroy(): void {
    if (this.failure === undefined) this.#connection?.stream.destroy()
  }

  handleCopyInResponse(): void {
    this.#begin()
  }

  handleError(error: Error): void {
    this.failure ??= error
    this.#fail(error)
    this.#interrupt(error)
  }

  handleCommandComplete(message: { text?: string }): void {
    this.#rowCount = Number(/^COPY (\d+)/.exec(message.text ?? '')?.[1] ?? 0)
  }

  handleReadyForQuery(): void {
    this.#finish()
  }
}
