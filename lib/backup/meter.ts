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

/** Takes `head` and `tail` off again; an error when they are not there. */
export class Unframe extends Transform {
  readonly #head: Buffer
  readonly #tail: Buffer
  readonly #onBytes: ((bytes: number) => void) | undefined
  #headBytes = 0
  /** The last chunk that came: the tail may be in it. Held whole, so that no byte is copied. */
  #held: Buffer = Buffer.alloc(0)

  constructor(head: string, tail: string, onBytes?: (bytes: number) => void) {
    super()
    this.#onBytes = onBytes
    this.#head = Buffer.from(head)
    this.#tail = Buffer.from(tail)
  }

  override _transform(chunk: Buffer, _encoding: BufferEncoding, done: TransformCallback): void {
    this.#onBytes?.(chunk.length)
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
    if (rest.length < this.#tail.length) this.#held = Buffer.concat([this.#held, rest])
    else {
      if (this.#held.length > 0) this.push(this.#held)
      this.#held = rest
    }
    done()
  }

  override _flush(done: TransformCallback): void {
    const end = this.#held.length - this.#tail.length
    if (this.#headBytes < this.#head.length || end < 0 || !this.#held.subarray(end).equals(this.#tail)) {
      done(new Error('does not end as its manifest says'))
      return
    }
    if (end > 0) this.push(this.#held.subarray(0, end))
    done()
  }
}
