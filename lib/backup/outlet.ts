import { Readable } from 'node:stream'

/** Chunks that wait for the store, beside those it has taken. */
const waitingChunks = 2

/** Whoever read has stopped. */
export class OutletClosed extends Error {}

/** What an object store reads while another writes: `send` waits for room. */
export class Outlet extends Readable {
  #wake: () => void = () => undefined

  constructor() {
    // Counted in chunks: a stream that counts bytes would put them together anew for its reader.
    super({ objectMode: true, highWaterMark: waitingChunks })
  }

  /** @throws {OutletClosed} when nobody reads any more */
  async send(chunk: Buffer): Promise<void> {
    if (chunk.length === 0) return
    if (!this.destroyed && !this.push(chunk))
      await new Promise<void>((wake) => {
        this.#wake = wake
      })
    if (this.destroyed) throw new OutletClosed('The store has stopped reading.')
  }

  end(): void {
    this.push(null)
  }

  override _read(): void {
    this.#wake()
  }

  override _destroy(error: Error | null, done: (error?: Error | null) => void): void {
    this.#wake()
    done(error)
  }
}
