/** S3 accepts 10,000 parts, some stores only 1,000; a part must have 5 MiB, and be of one size with the others on R2. */
const mib = 1_048_576
const smallestPart = 8 * mib
const largestPart = 64 * mib
export const mostParts = 10_000

/**
 * How big the parts of an object of about `expectedBytes` are. At most 1,000 parts up to 62.5 GB; beyond, memory counts
 * more, and there are up to 10,000 parts (640 GB). Where the size is not known, parts of 8 MiB reach 78 GiB, or 7.8 GiB
 * in a store that allows 1,000.
 */
export function partBytesFor(expectedBytes: number | undefined): number {
  const needed = Math.ceil((expectedBytes ?? 0) / 1_000 / mib) * mib
  return Math.min(Math.max(smallestPart, needed), largestPart)
}

/** How many parts are sent at once: 24 MiB in flight, or one part that is bigger. */
export function partsInFlight(partBytes: number): number {
  return Math.max(1, Math.floor((24 * mib) / partBytes))
}

/** Bytes as they came, not copied into one: a part may be 64 MiB. */
export type Chunks = readonly Uint8Array[]

export interface Part {
  chunks: Chunks
  bytes: number
  /** Nothing follows. The first part may be the last, and may be empty. */
  last: boolean
}

/** A source that comes in crumbs is put together now and then: an object for each byte would cost fifty times its size. */
const mostChunks = 2_048

/** The stream in parts of exactly `partBytes`, the last one excepted. At least one part comes. */
export async function* inParts(source: AsyncIterable<Uint8Array>, partBytes: number): AsyncGenerator<Part, void, undefined> {
  let chunks: Uint8Array[] = []
  let bytes = 0
  for await (const chunk of source) {
    let rest = chunk
    while (rest.length > 0) {
      // A full part is held back until a byte follows, because only then is it known not to be the last.
      if (bytes === partBytes) {
        yield { chunks, bytes, last: false }
        chunks = []
        bytes = 0
      }
      const piece = rest.subarray(0, partBytes - bytes)
      chunks.push(piece)
      bytes += piece.length
      rest = rest.subarray(piece.length)
      if (chunks.length > mostChunks) chunks = [Buffer.concat(chunks)]
    }
  }
  yield { chunks, bytes, last: true }
}
