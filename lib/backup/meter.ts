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

/** Takes `head` and `tail` off again, piece by piece. Pieces of what it is given come out; what may be the tail is copied, and kept. */
export class Unframing {
  readonly #head: Buffer
  readonly #tail: Buffer
  #headBytes = 0
  #kept: Buffer = Buffer.alloc(0)

  constructor(head: string, tail: string) {
    this.#head = Buffer.from(head)
    this.#tail = Buffer.from(tail)
  }

  /** What of `chunk`, and of what was kept before, is neither. @throws when it does not begin with the head */
  push(chunk: Buffer): Buffer[] {
    let rest = chunk
    if (this.#headBytes < this.#head.length) {
      const taken = Math.min(rest.length, this.#head.length - this.#headBytes)
      if (!rest.subarray(0, taken).equals(this.#head.subarray(this.#headBytes, this.#headBytes + taken)))
        throw new Error('does not begin as its manifest says')
      this.#headBytes += taken
      rest = rest.subarray(taken)
    }
    if (rest.length < this.#tail.length) {
      const held = Buffer.concat([this.#kept, rest])
      const end = Math.max(0, held.length - this.#tail.length)
      this.#kept = held.subarray(end)
      return end === 0 ? [] : [held.subarray(0, end)]
    }
    const end = rest.length - this.#tail.length
    const out = [this.#kept, rest.subarray(0, end)].filter((piece) => piece.length > 0)
    this.#kept = Buffer.from(rest.subarray(end))
    return out
  }

  /** @throws when what was kept is not the tail */
  end(): void {
    if (this.#headBytes < this.#head.length || !this.#kept.equals(this.#tail)) throw new Error('does not end as its manifest says')
  }
}

/** The same as a stream; an error when head or tail are not there. */
export class Unframe extends Transform {
  readonly #unframing: Unframing

  constructor(head: string, tail: string) {
    super()
    this.#unframing = new Unframing(head, tail)
  }

  override _transform(chunk: Buffer, _encoding: BufferEncoding, done: TransformCallback): void {
    try {
      for (const piece of this.#unframing.push(chunk)) this.push(piece)
      done()
    } catch (error) {
      done(error as Error)
    }
  }

  override _flush(done: TransformCallback): void {
    try {
      this.#unframing.end()
      done()
    } catch (error) {
      done(error as Error)
    }
  }
}
