import { Transform } from 'node:stream'

/**
 * One JSON value a line in, a JSON array of the same values out. Works on bytes: a line feed cannot occur inside a value,
 * because JSON escapes it. The first `sample` lines are kept for the page that a person reads.
 */
export function jsonArray(sample: { lines: string[]; limit: number }): Transform & { rows: () => number } {
  let rows = 0
  let partial = Buffer.alloc(0)
  const stream = new Transform({
    transform(chunk: Buffer, _encoding, done) {
      const bytes = partial.length === 0 ? chunk : Buffer.concat([partial, chunk])
      const end = bytes.lastIndexOf(0x0a)
      partial = Buffer.from(bytes.subarray(end + 1))
      if (end === -1) return done()
      // Whole lines only. The separator goes before each row, so that the last one needs no knowledge of the end.
      const parts: Buffer[] = []
      for (let at = 0; at <= end; ) {
        const next = bytes.indexOf(0x0a, at)
        const line = bytes.subarray(at, next)
        if (sample.lines.length < sample.limit) sample.lines.push(line.toString('utf8'))
        parts.push(rows === 0 ? opening : separator, line)
        rows++
        at = next + 1
      }
      done(null, Buffer.concat(parts))
    },
    flush(done) {
      done(null, Buffer.from(rows === 0 ? '[]\n' : '\n]\n'))
    },
  })
  return Object.assign(stream, { rows: () => rows })
}

const opening = Buffer.from('[\n')
const separator = Buffer.from(',\n')
