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

export interface Part {
  bytes: Uint8Array
  /** Nothing follows. The first part may be the last, and may be empty. */
  last: boolean
}

/** The stream in parts of exactly `partBytes`, the last one excepted. At least one part comes. */
export async function* inParts(chunks: AsyncIterable<Uint8Array>, partBytes: number): AsyncGenerator<Part, void, undefined> {
  let held: Uint8Array[] = []
  let size = 0
  for await (const chunk of chunks) {
    let rest = chunk
    while (rest.length > 0) {
      // A full part is held back until a byte follows, because only then is it known not to be the last.
      if (size === partBytes) {
        yield { bytes: Buffer.concat(held), last: false }
        held = []
        size = 0
      }
      const piece = rest.subarray(0, partBytes - size)
      held.push(piece)
      size += piece.length
      rest = rest.subarray(piece.length)
    }
  }
  yield { bytes: Buffer.concat(held), last: true }
}
