import { createHash } from 'node:crypto'
import { Transform, type TransformCallback } from 'node:stream'

export interface Measured {
  bytes: number
  sha256: string
}

/** Counts and hashes what it is given. */
export class Digest {
  readonly #hash = createHash('sha256')
  bytes = 0

  update(chunk: Uint8Array): void {
    this.bytes += chunk.length
    this.#hash.update(chunk)
  }

  /** Once, at the end. */
  measured(): Measured {
    return { bytes: this.bytes, sha256: this.#hash.digest('hex') }
  }
}

/** Passes bytes through, counting and hashing them. */
export class Meter extends Transform {
  readonly #digest = new Digest()
  readonly #onBytes: ((bytes: number) => void) | undefined

  constructor(onBytes?: (bytes: number) => void) {
    super()
    this.#onBytes = onBytes
  }

  override _transform(chunk: Buffer, _encoding: BufferEncoding, done: TransformCallback): void {
    this.#digest.update(chunk)
    this.#onBytes?.(chunk.length)
    done(null, chunk)
  }

  /** Once, after the stream has ended. */
  measured(): Measured {
    return this.#digest.measured()
  }
}

/**
 * Makes few large chunks of many small ones. PostgreSQL sends eight kilobytes at a time, and every chunk costs a round
 * trip to the thread that compresses: with 256 kB a backup took half the processor time in measurements.
 */
export class Gather extends Transform {
  readonly #chunkBytes: number
  #waiting: Buffer[] = []
  #waitingBytes = 0

  constructor(chunkBytes = 256 * 1024) {
    super({ readableHighWaterMark: chunkBytes })
    this.#chunkBytes = chunkBytes
  }

  override _transform(chunk: Buffer, _encoding: BufferEncoding, done: TransformCallback): void {
    this.#waiting.push(chunk)
    this.#waitingBytes += chunk.length
    if (this.#waitingBytes >= this.#chunkBytes) this.#give()
    done()
  }

  override _flush(done: TransformCallback): void {
    if (this.#waitingBytes > 0) this.#give()
    done()
  }

  #give(): void {
    this.push(this.#waiting.length === 1 ? this.#waiting[0] : Buffer.concat(this.#waiting, this.#waitingBytes))
    this.#waiting = []
    this.#waitingBytes = 0
  }
}

/** Puts `head` before what is written and `tail` after it. */
export class Frame extends Transform {
  readonly #tail: Buffer

  constructor(head: string, tail: string) {
    super()
    this.#tail = Buffer.from(tail)
    this.push(Buffer.from(head))
  }

  override _transform(chunk: Buffer, _encoding: BufferEncoding, done: TransformCallback): void {
    done(null, chunk)
  }

  override _flush(done: TransformCallback): void {
    if (this.#tail.length > 0) this.push(this.#tail)
    done()
  }
}

/** Takes `head` and `tail` off again; an error when they are not there. */
export class Unframe extends Transform {
  readonly #head: Buffer
  readonly #tail: Buffer
  #headBytes = 0
  #held: Buffer = Buffer.alloc(0)

  constructor(head: string, tail: string) {
    super()
    this.#head = Buffer.from(head)
    this.#tail = Buffer.from(tail)
  }

  override _transform(chunk: Buffer, _encoding: BufferEncoding, done: TransformCallback): void {
    let rest = chunk
    if (this.#headBytes < this.#head.length) {
      const taken = Math.min(rest.length, this.#head.length - this.#headBytes)
      if (!rest.subarray(0, taken).equals(this.#head.subarray(this.#headBytes, this.#headBytes + taken))) {
        done(new Error('does not begin as its manifest says'))
        return
      }
      this.#headBytes += taken
      rest = rest.subarray(taken)
    }
    // The last bytes may be the tail: they are held back until more comes.
    const all = this.#held.length === 0 ? rest : Buffer.concat([this.#held, rest])
    const pass = Math.max(0, all.length - this.#tail.length)
    this.#held = Buffer.from(all.subarray(pass))
    if (pass > 0) this.push(all.subarray(0, pass))
    done()
  }

  override _flush(done: TransformCallback): void {
    const whole = this.#headBytes === this.#head.length && this.#held.equals(this.#tail)
    done(whole ? null : new Error('does not end as its manifest says'))
  }
}
